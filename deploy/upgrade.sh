#!/usr/bin/env bash
# Goes to another release while clients stay served: unpacks it beside the running one, migrates, checks, starts
# the other colour, waits until that is ready, lets the old one go; then what stores, one process at a time.
#
#   upgrade.sh [SOURCE]     a release's tarball or a checkout; without it, the one that this script lies in
#   upgrade.sh --help
#
# What fails before the new colour is ready leaves the old one serving. Schemas only grow in an upgrade
# (docs/versioning.md), so the release before runs on the new one, and rollback.sh goes back.
. "$(dirname "$0")/lib.sh"

main() {
  case ${1:-} in
    --help | -h)
      show_help
      return
      ;;
    -*) fail "unknown option $1; see --help" ;;
  esac
  need_root
  [ -n "$(release_at current)" ] || fail "nothing is installed; install.sh does that"
  alone
  unpack "${1:-$SOURCE}"
  if [ "$(release_at current)" = "$RELEASE" ] && is_everywhere "$RELEASE"; then
    say "Release $RELEASE runs already."
    return
  fi
  migrate "$RELEASE"
  check "$RELEASE"
  local before
  before=$(release_at current)
  switch_to "$RELEASE" || fail "not all of $RELEASE became ready; rollback.sh brings everything back to $before"
  prune
  say "service-tracking $RELEASE runs; rollback.sh goes back to $before."
}

main "$@"
