# shellcheck shell=bash
# What install.sh, upgrade.sh, rollback.sh, uninstall.sh and pack.sh have in common. Not run by itself.
#
#   /opt/service-tracking/releases/VERSION   code; complete when it has the file .complete, never changed then
#   /opt/service-tracking/venvs/DIGEST       the packages of one requirements.lock and Python
#   /opt/service-tracking/instances/NAME     what each unit runs: a link to a release, changed only while it is stopped
#   /opt/service-tracking/current, previous  links to releases: where everything is, and where rollback.sh goes
#   /etc/service-tracking                    settings and secrets, never overwritten
set -euo pipefail

# shellcheck disable=SC2034 # the scripts use it
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
OPT=/opt/service-tracking
ETC=/etc/service-tracking
UNITS=/etc/systemd/system
SECRETS=(db_password jwt_secret kafka_sasl_password)
PYTHON=/usr/bin/python3 # one that ProtectHome does not hide
KEPT_RELEASES=4

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The comment at the head of the script is its help.
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

# slowly WHAT COMMAND…: its output appears only if it fails; a line every five seconds from the second on.
slowly() {
  local what=$1 log began=$SECONDS told=-3 status=0 pid
  shift
  log=$(mktemp)
  say "$what"
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if ((SECONDS - began - told >= 5)); then
      told=$((SECONDS - began))
      say "  ... $told s"
    fi
    sleep 0.1
  done
  wait "$pid" || status=$?
  [ "$status" = 0 ] || sed 's/^/  | /' "$log" | tail -n 30 >&2
  rm -f "$log"
  return "$status"
}

need_root() { [ "$(id -u)" = 0 ] || fail "has to run as root"; }

# One of these scripts at a time.
alone() {
  exec 9>/run/service-tracking-deploy.lock
  flock -n 9 || fail "another installation, upgrade or rollback is running"
}

# What a release consists of, relative to a checkout; the pages only if they were built.
release_files() {
  local each
  for each in server.py dead_letters.py after_restore.py exports.py verdicts.py erase.py verify_receipt.py alembic.ini alembic tracking handlers workers roles deploy \
    docs requirements.lock requirements-otel.lock LICENSE CHANGELOG.md web/dist; do
    [ ! -e "$1/$each" ] || echo "$each"
  done
}

# Always the same bytes for the same files.
release_tar() {
  local files
  mapfile -t files < <(release_files "$1")
  tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --exclude=__pycache__ -cf - "${files[@]}"
}

code_version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$1/tracking/__init__.py"; }

# Of a checkout: the version and a digest of the files, since its code changes under one version.
version_of() {
  if [ -e "$1/RELEASE" ]; then cat "$1/RELEASE"; else
    echo "$(code_version "$1")+$(release_tar "$1" | sha256sum | cut -c 1-8)"
  fi
}

# unpack SOURCE: a checkout's or a release's directory, or its tarball, becomes $OPT/releases/$RELEASE, with a venv.
unpack() {
  local from=$1 beside=
  install -d -m 755 "$OPT" "$OPT/releases" "$OPT/venvs" "$OPT/instances"
  if [ -f "$from" ]; then
    beside=$(mktemp -d "$OPT/releases/.unpacked.XXXXXX")
    slowly "Unpacking $from" tar -C "$beside" -xzf "$from" --strip-components=1 ||
      { rm -rf "$beside"; fail "$from cannot be unpacked: is it a tarball of deploy/pack.sh?"; }
    from=$beside
  fi
  [ -e "$from/tracking/__init__.py" ] || fail "$from is neither a checkout nor a release of service-tracking"
  RELEASE=$(version_of "$from")
  local to=$OPT/releases/$RELEASE
  if [ ! -e "$to/.complete" ]; then
    [ -d "$from/web/dist" ] || say "Without pages: web/dist is not built (make web); the API is all there."
    rm -rf "$to"
    install -d -m 755 "$to"
    release_tar "$from" | tar -C "$to" --no-same-owner -xf -
    echo "$RELEASE" >"$to/RELEASE"
    make_venv "$to"
    slowly "Compiling release $RELEASE" "$to/.venv/bin/python" -m compileall -q \
      "$to/server.py" "$to/tracking" "$to/handlers" "$to/workers" "$to/roles" "$to/alembic"
    touch "$to/.complete"
  else
    make_venv "$to" # a setting may need more packages than before
  fi
  [ -z "$beside" ] || rm -rf "$beside"
  say "Release $RELEASE is in $to"
}

# Releases with the same lock share one: an upgrade mostly installs nothing.
make_venv() {
  local release=$1 lock=requirements.lock digest venv
  # Spans need packages that are of no use otherwise.
  ! grep -qs '^OTEL_EXPORTER_OTLP_ENDPOINT=.' "$ETC/env" || lock=requirements-otel.lock
  digest=$({ "$PYTHON" --version && cat "$release/$lock"; } | sha256sum | cut -c 1-16)
  venv=$OPT/venvs/$digest
  if [ ! -e "$venv/.complete" ]; then
    slowly "Making $venv with $PYTHON" "$PYTHON" -m venv --clear "$venv" ||
      fail "no virtual environment: is the package python3-venv installed?"
    # The lock is whole: pip, left to resolve, may find a newer version that has no hash there.
    slowly "Installing $lock, each package checked against its hash" \
      "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --no-deps \
      -r "$release/$lock" || fail "not installed; PIP_INDEX_URL or PIP_FIND_LINKS name another source"
    slowly "Compiling the packages" "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" || true
    touch "$venv/.complete"
  fi
  ln -sfn "../../venvs/$digest" "$release/.venv"
}

# link NAME RELEASE, at once or not at all.
link() {
  ln -sfn "releases/$2" "$OPT/.link"
  [ "$(dirname "$1")" = . ] || ln -sfn "../releases/$2" "$OPT/.link"
  mv -T "$OPT/.link" "$OPT/$1"
}

release_at() { [ ! -L "$OPT/$1" ] || basename "$(readlink "$OPT/$1")"; }

install_units() {
  local release=$OPT/releases/$1
  cp -r --no-preserve=ownership "$release"/deploy/systemd/. "$UNITS/"
  systemctl daemon-reload
}

# in_release RELEASE COMMAND…: as the service would run it: its settings, its secrets, a user of its own, no root.
# MIGRATING=yes: with the database role of migrations.env, if there is one. A unit by hand: systemd-run wants D-Bus.
in_release() {
  local release=$OPT/releases/$1 unit=tracking-task-$$.service said each status=0 secrets=("${SECRETS[@]}")
  local command="${*:2}" more=
  if [ -e "$ETC/receipt_key" ]; then secrets+=(receipt_key); fi
  said=$(mktemp)
  if [ "${MIGRATING:-}" = yes ] && [ -e "$ETC/migrations.env" ]; then
    secrets=(migrations_db_password)
    more="EnvironmentFile=$ETC/migrations.env
Environment=DB_PASSWORD_FILE=%d/migrations_db_password"
    # shellcheck disable=SC2016 # the unit's environment has the name
    command="/bin/sh -c 'DB_USER=\$\${MIGRATIONS_DB_USER:-\$\$DB_USER} exec $command'"
  else
    command="$release/$command"
  fi
  {
    printf '[Service]\nType=oneshot\nDynamicUser=yes\nProtectHome=yes\nPrivateTmp=yes\nNoNewPrivileges=yes\n'
    printf 'TimeoutStartSec=infinity\nStandardOutput=truncate:%s\nStandardError=inherit\n' "$said"
    printf 'Environment=PYTHONDONTWRITEBYTECODE=1\n'
    for each in "${secrets[@]}"; do
      printf 'LoadCredential=%s:%s\nEnvironment=%s_FILE=%%d/%s\n' "$each" "$ETC/$each" "${each^^}" "$each"
    done
    printf 'WorkingDirectory=%s\nEnvironmentFile=%s\n%s\nExecStart=%s\n' "$release" "$ETC/env" "$more" "$command"
  } >"/run/systemd/system/$unit"
  systemctl daemon-reload
  systemctl start "$unit" || status=$?
  cat "$said"
  rm -f "/run/systemd/system/$unit" "$said"
  systemctl reset-failed "$unit" 2>/dev/null || true
  systemctl daemon-reload
  return "$status"
}

migrate() {
  MIGRATING=yes slowly "Migrating the database" in_release "$1" .venv/bin/python -m alembic upgrade head ||
    fail "not migrated; nothing else was changed"
}

check() {
  local role=live
  has_live || role=ingest
  slowly "Checking settings and connections of $1" in_release "$1" .venv/bin/python server.py --role "$role" --check ||
    fail "release $1 cannot run here; nothing else was changed"
}

# The units of this machine are those that are enabled.
is_enabled() { systemctl is-enabled --quiet "$1" 2>/dev/null; }
has_all() { is_enabled service-tracking-all.service; }
has_live() { has_all || [ -n "$(colour)" ] || [ -z "$(ingest_numbers)" ]; }
colour() {
  local each
  for each in blue green; do
    if is_enabled "service-tracking-live@$each.service"; then
      echo "$each"
      return
    fi
  done
}
ingest_numbers() {
  local each
  for each in 1 2 3 4 5 6 7 8 9; do
    ! is_enabled "service-tracking-ingest@$each.service" || echo "$each"
  done
}

enabled_units() {
  local each
  for each in $(ingest_numbers); do echo "service-tracking-ingest@$each.service"; done
  ! has_all || echo service-tracking-all.service
  each=$(colour)
  [ -z "$each" ] || echo "service-tracking-live@$each.service"
}

# service-tracking-live@blue.service is live-blue
instance_of() { basename "${1#service-tracking-}" .service | tr @ -; }

tell_why() {
  local each
  for each; do
    systemctl is-active --quiet "$each" && continue
    say "  $each says: $(systemctl show -P StatusText "$each")" >&2
    journalctl --no-pager -q -n 15 -o cat -u "$each" 2>/dev/null | sed 's/^/  | /' >&2 || true
  done
}

start_unit() {
  systemctl reset-failed "$1" 2>/dev/null || true
  slowly "Starting $1, waiting until it is ready" systemctl start "$1" && return
  tell_why "$1"
  systemctl stop "$1" 2>/dev/null || true
  return 1
}

# restart_on RELEASE NAME UNIT: stopped, linked, started; back on its old release if it does not become ready.
restart_on() {
  local old
  old=$(release_at "instances/$2")
  [ "$old" != "$1" ] || ! systemctl is-active --quiet "$3" || return 0
  slowly "Stopping $3" systemctl stop "$3"
  link "instances/$2" "$1"
  start_unit "$3" && return
  [ -n "$old" ] || return 1
  link "instances/$2" "$old"
  start_unit "$3" || true
  say "$3 runs release $old again" >&2
  return 1
}

# The other colour takes connections from the same queue before the one that goes stops taking them.
switch_colour() {
  local old new=blue
  old=$(colour)
  [ "$old" != blue ] || new=green
  if [ "$(release_at "instances/live-$old")" = "$1" ] && systemctl is-active --quiet "service-tracking-live@$old.service"
  then return; fi
  systemctl stop "service-tracking-live@$new.service"
  link "instances/live-$new" "$1"
  start_unit "service-tracking-live@$new.service" || return 1
  systemctl enable --quiet "service-tracking-live@$new.service"
  systemctl disable --quiet "service-tracking-live@$old.service"
  slowly "Stopping service-tracking-live@$old.service, its viewers come back to $new" \
    systemctl stop "service-tracking-live@$old.service"
}

# switch_to RELEASE: every unit of this machine, without refusing a connection.
switch_to() {
  local release=$1 before each
  before=$(release_at current)
  install_units "$release"
  if has_all; then restart_on "$release" all service-tracking-all.service || return 1; fi
  if [ -n "$(colour)" ]; then switch_colour "$release" || return 1; fi
  for each in $(ingest_numbers); do
    restart_on "$release" "ingest-$each" "service-tracking-ingest@$each.service" || return 1
  done
  link current "$release"
  if [ -n "$before" ] && [ "$before" != "$release" ]; then link previous "$before"; fi
}

# Whether all that runs here is on that release.
is_everywhere() {
  local each
  for each in $(enabled_units); do
    [ "$(release_at "instances/$(instance_of "$each")")" = "$1" ] || return 1
  done
}

# The newest releases stay, and whatever a link leads to; then the packages that none of them uses.
prune() {
  local each
  # shellcheck disable=SC2012 # versions are plain words
  while read -r each; do
    [ -n "$(find "$OPT" "$OPT/instances" -maxdepth 1 -type l -lname "*releases/$each")" ] || rm -rf "${OPT:?}/releases/$each"
  done < <(ls -1t "$OPT/releases" | tail -n "+$((KEPT_RELEASES + 1))")
  for each in "$OPT"/venvs/*; do
    [ -n "$(find "$OPT"/releases -maxdepth 2 -name .venv -lname "*/$(basename "$each")")" ] || rm -rf "$each"
  done
}
