#!/usr/bin/env bash
# Stops service-tracking (viewers are let go first) and removes its units, code and packages from this machine.
#
#   uninstall.sh            keeps /etc/service-tracking
#   uninstall.sh --purge    removes it, too, with the secrets
#   uninstall.sh --help
#
# Database and Kafka's topics are never touched: they are not on this machine's account.
. "$(dirname "$0")/lib.sh"

main() {
  local purge=no units
  case ${1:-} in
    --help | -h)
      show_help
      return
      ;;
    --purge) purge=yes ;;
    "") ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  need_root
  alone
  mapfile -t units < <(systemctl list-units --all --plain --no-legend 'service-tracking*' | awk '{ print $1 }')
  if [ "${#units[@]}" -gt 0 ]; then
    slowly "Stopping ${units[*]}" systemctl stop "${units[@]}" || true
    systemctl reset-failed "${units[@]}" 2>/dev/null || true
  fi
  # Drop-ins of this machine go with the units that they are for.
  find "$UNITS" -name 'service-tracking*' -prune -exec rm -rf {} +
  systemctl daemon-reload
  rm -rf "$OPT"
  [ "$purge" = no ] || rm -rf "$ETC"
  rm -f /run/service-tracking-deploy.lock
  say "service-tracking is gone from this machine.$([ "$purge" = yes ] || echo " Settings and secrets stay in $ETC.")"
}

main "$@"
