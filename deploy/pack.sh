#!/usr/bin/env bash
# Makes the tarball of a release from this checkout, pages included: build them first (make web).
#
#   pack.sh [FOLDER]     writes FOLDER/service-tracking-VERSION.tar.gz (here) and prints its name
#   pack.sh --help
. "$(dirname "$0")/lib.sh"

main() {
  case ${1:-} in
    --help | -h)
      show_help
      return
      ;;
  esac
  [ -d "$SOURCE/web/dist" ] || fail "web/dist is not built: make web"
  local version name folder work
  version=$(code_version "$SOURCE")
  name=service-tracking-$version
  folder=$(cd "${1:-.}" && pwd)
  work=$(mktemp -d)
  mkdir "$work/$name"
  release_tar "$SOURCE" | tar -C "$work/$name" -xf -
  echo "$version" >"$work/$name/RELEASE"
  tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - "$name" |
    gzip -n >"$folder/$name.tar.gz"
  rm -rf "$work"
  say "$folder/$name.tar.gz"
}

main "$@"
