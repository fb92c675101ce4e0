#!/usr/bin/env bash
# Installs service-tracking on this machine: code, packages, settings, schema, units. Run again, it repairs what is
# missing and leaves the rest; for another version use upgrade.sh.
#
#   install.sh [OPTIONS] [SOURCE]
#
# SOURCE is a release's tarball or a checkout; without it, the one that this script lies in.
#
#   --all        one process for everything (service-tracking-all.service)
#   --ingest N   else N processes that store, 0 to 9 (2), ...
#   --no-live    ... and no process for clients (without this: service-tracking-live@blue.service)
#   --no-start   do everything, but start nothing
#   --help
#
# The first run makes /etc/service-tracking and ends with status 3: fill in env, and the secrets beside it, then run
# it again. Settings and secrets that are there are never changed. Where /etc/service-tracking/migrations.env has
# MIGRATIONS_DB_USER, the schema is migrated by that role, with the password in migrations_db_password.
. "$(dirname "$0")/lib.sh"

main() {
  local layout=split ingest=2 live=yes start=yes source=$SOURCE
  while [ $# -gt 0 ]; do
    case $1 in
      --all) layout=all ;;
      --ingest)
        [[ ${2:-} =~ ^[0-9]$ ]] || fail "--ingest takes a number from 0 to 9"
        ingest=$2
        shift
        ;;
      --no-live) live=no ;;
      --no-start) start=no ;;
      --help | -h)
        show_help
        return
        ;;
      -*) fail "unknown option $1; see --help" ;;
      *) source=$1 ;;
    esac
    shift
  done
  need_root
  command -v systemctl >/dev/null || fail "needs systemd"
  alone
  settings || return $?
  unpack "$source"
  if [ -n "$(release_at current)" ] && [ "$(release_at current)" != "$RELEASE" ]; then
    fail "release $(release_at current) is installed; upgrade.sh goes to $RELEASE"
  fi
  install_units "$RELEASE"
  migrate "$RELEASE"
  choose "$layout" "$live" "$ingest"
  check "$RELEASE"
  link current "$RELEASE"
  [ "$start" = yes ] || { say "Installed, not started: systemctl start service-tracking.target"; return; }
  start_all
  say "service-tracking $RELEASE runs. systemctl status 'service-tracking*'; journalctl -u 'service-tracking*'"
}

# Whoever runs a unit has no name of his own (DynamicUser): systemd, as root, reads these files for it.
settings() {
  local each new=no
  install -d -m 755 "$ETC"
  if [ ! -e "$ETC/env" ]; then
    install -m 640 "$SOURCE/deploy/env.example" "$ETC/env"
    new=yes
  fi
  for each in "${SECRETS[@]}"; do
    [ -e "$ETC/$each" ] || install -m 600 /dev/null "$ETC/$each"
  done
  if [ -e "$ETC/migrations.env" ] && [ ! -e "$ETC/migrations_db_password" ]; then
    install -m 600 /dev/null "$ETC/migrations_db_password"
  fi
  [ "$new" = yes ] || return 0
  say "Fill in $ETC/env and the secrets beside it (${SECRETS[*]}), then run this again."
  return 3
}

# choose LAYOUT LIVE INGEST: enable the units of this machine, unless it has some.
choose() {
  local number
  if ! has_all && [ -z "$(colour)$(ingest_numbers)" ]; then
    if [ "$1" = all ]; then
      install -d -m 755 "$UNITS/service-tracking.socket.d" "$UNITS/service-tracking-management.socket.d"
      printf '[Socket]\nService=service-tracking-all.service\n' |
        tee "$UNITS/service-tracking.socket.d/10-all.conf" \
          >"$UNITS/service-tracking-management.socket.d/10-all.conf"
      systemctl daemon-reload
      systemctl enable --quiet service-tracking-all.service
    else
      [ "$2" = no ] || systemctl enable --quiet service-tracking-live@blue.service
      for ((number = 1; number <= $3; number++)); do
        systemctl enable --quiet "service-tracking-ingest@$number.service"
      done
    fi
  fi
  systemctl enable --quiet service-tracking.target
  if has_all || [ -n "$(colour)" ]; then
    systemctl enable --quiet service-tracking.socket service-tracking-management.socket
  fi
  for number in $(ingest_numbers); do
    [ -e "$ETC/ingest-$number.env" ] ||
      printf '# /health, /readiness and /metrics of service-tracking-ingest@%s\nSERVICE_PORT=%s\nMANAGEMENT_PORT=\n' \
        "$number" "$((8010 + number))" >"$ETC/ingest-$number.env"
  done
}

# All at once: each waits for what it needs.
start_all() {
  local each name units=()
  mapfile -t units < <(enabled_units)
  if has_all || [ -n "$(colour)" ]; then systemctl start service-tracking.socket service-tracking-management.socket; fi
  for each in "${units[@]}"; do
    name=$(instance_of "$each")
    systemctl is-active --quiet "$each" || link "instances/$name" "$RELEASE"
  done
  slowly "Starting ${units[*]}, waiting until they are ready" systemctl start "${units[@]}" || {
    tell_why "${units[@]}"
    fail "not everything became ready; systemd goes on trying"
  }
  systemctl start service-tracking.target
}

main "$@"
