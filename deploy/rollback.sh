#!/usr/bin/env bash
# Goes back to the release before, while clients stay served; after an upgrade that failed halfway, to the one from
# which it came. The schema stays as it is: the database itself says whether the older code runs on it.
#
#   rollback.sh                  to the release before
#   rollback.sh --to VERSION     to another one that is still there
#   rollback.sh --list           what is there
#   rollback.sh --help
. "$(dirname "$0")/lib.sh"

main() {
  local to=
  case ${1:-} in
    --help | -h)
      show_help
      return
      ;;
    --list)
      # shellcheck disable=SC2012
      ls -1t "$OPT/releases"
      return
      ;;
    --to) to=${2:-nothing} ;;
    "") ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  need_root
  [ -n "$(release_at current)" ] || fail "nothing is installed"
  alone
  if [ -z "$to" ]; then
    to=$(release_at current)
    if is_everywhere "$to"; then to=$(release_at previous); fi
  fi
  [ -n "$to" ] || fail "there is no release before this one; --list shows what is there"
  [ -e "$OPT/releases/$to/.complete" ] || fail "there is no release $to; --list shows what is there"
  check "$to"
  switch_to "$to" || fail "not all of $to became ready; see journalctl -u 'service-tracking*'"
  say "service-tracking $to runs."
}

main "$@"
