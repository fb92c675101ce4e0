#!/usr/bin/env bash
# Installs what the project needs: system packages, Kafka's jars, .venv (with Node, which dev/web.py
# runs). Run by `make setup`; silent and fast when nothing is missing.
#
# `setup.sh tests` installs Chromium, nginx, HAProxy, PgBouncer and pgBackRest, too; CHROMIUM names one that is elsewhere.
# With ROLES set (`make demo ROLES=2`) it installs nginx.
#
# With DB_HOST set no PostgreSQL is looked for, with KAFKA_BROKERS set no Java and Maven: then
# somebody else's are used.
set -euo pipefail
cd "$(dirname "$0")/.."
for_whom=${1:-}

# What is missing, as Debian packages. Every check is a look at a file or one short command.
missing_packages() {
  have_python || echo python3 python3-venv
  command -v make >/dev/null || echo make
  have_browser || echo chromium fonts-dejavu-core # a map without letters is no test of it
  if [ "$for_whom" = tests ] || [ -n "${ROLES:-}" ]; then
    [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || echo nginx-light
  fi
  if [ "$for_whom" = tests ]; then # tests/test_proxies.py has it in front of two nodes
    command -v ogrinfo >/dev/null || echo gdal-bin # tests/test_exports.py reads exports
    [ -x /usr/sbin/haproxy ] || command -v haproxy >/dev/null || echo haproxy
    [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || echo pgbouncer # tests/test_pooler.py
    [ -n "${DB_HOST:-}" ] || command -v pgbackrest >/dev/null || echo pgbackrest # tests/test_backup.py
  fi
  command -v promtool >/dev/null || echo prometheus # promtool checks the metrics in a test
  if [ -z "${DB_HOST:-}" ]; then
    have_postgis || echo "postgresql-$(postgres_version) postgresql-$(postgres_version)-postgis-3"
  fi
  if [ -z "${KAFKA_BROKERS:-}" ]; then
    have_java || echo default-jre-headless
    command -v mvn >/dev/null || echo maven
  fi
}

# Only tests need one: the demo has to start where none can be installed.
have_browser() {
  [ "$for_whom" != tests ] || [ -n "${CHROMIUM:-}" ] || command -v chromium chromium-browser \
    google-chrome >/dev/null
}

have_python() {
  python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

have_java() {
  local major
  major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${major:-0}" -ge 17 ]
}

# Numbers of the installed PostgreSQL servers, 15 or newer, the newest first.
postgres_servers() {
  local initdb version
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] || continue
    version=${initdb#/usr/lib/postgresql/}
    version=${version%%/*}
    [ "$version" -ge 15 ] && echo "$version"
  done | sort -rn
}

have_postgis() {
  local version
  for version in $(postgres_servers); do
    [ -e "/usr/share/postgresql/$version/extension/postgis.control" ] && return
  done
  # Outside Debian's layout: whatever pg_config speaks of.
  command -v pg_config >/dev/null && [ -x "$(pg_config --bindir 2>/dev/null)/initdb" ] &&
    [ -e "$(pg_config --sharedir)/extension/postgis.control" ]
}

# PostGIS must fit the server that is there already; otherwise the distribution chooses.
postgres_version() {
  local version
  version=$(postgres_servers | head -n 1)
  if [ -z "$version" ]; then
    version=$(apt-cache depends postgresql 2>/dev/null |
      sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
  fi
  echo "${version:-15}"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
  command -v apt-get >/dev/null && as_root true 2>/dev/null
}

give_up() {
  echo "setup: these are missing and could not be installed from here:" >&2
  printf '  %s\n' "$@" >&2
  echo "setup: on Debian or Ubuntu, as root: apt-get install --no-install-recommends $*" >&2
  echo "setup: elsewhere: Python 3.11+, PostgreSQL 15+ with PostGIS 3, Java 17+, Maven, promtool; for tests Chromium (CHROMIUM=its path), nginx, HAProxy, PgBouncer, pgBackRest" >&2
  exit 1
}

# Packages of servers start them when installed. policy-rc.d is Debian's way to forbid that; one
# that is there already is left alone.
without_daemons() {
  local policy=/usr/sbin/policy-rc.d made=
  if as_root test ! -e "$policy"; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  local status=0
  "$@" || status=$?
  [ -z "$made" ] || as_root rm -f "$policy"
  return "$status"
}

install_packages() {
  local packages
  can_install || give_up "$@"
  echo "setup: apt-get update"
  as_root apt-get update -qq || true # an old list may still do
  # Asked again: only now is the distribution's version of PostgreSQL known for sure.
  read -ra packages <<<"$(missing_packages | tr '\n' ' ')"
  echo "setup: apt-get install ${packages[*]}"
  without_daemons as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >"$apt_log" 2>&1 || {
    tail -n 15 "$apt_log" >&2
    give_up "${packages[@]}"
  }
}

system_packages() {
  local packages apt_log
  read -ra packages <<<"$(missing_packages | tr '\n' ' ')"
  [ "${#packages[@]}" -gt 0 ] || return 0
  apt_log=$(mktemp)
  install_packages "${packages[@]}"
  rm -f "$apt_log"
  read -ra packages <<<"$(missing_packages | tr '\n' ' ')"
  [ "${#packages[@]}" = 0 ] || give_up "${packages[@]}"
}

# The stamp holds what .venv was made from, so that a changed lock is noticed and an interrupted
# installation is repeated. A .venv that is a link, as in a second worktree, belongs to somebody
# else and is used as it is.
virtual_environment() {
  local stamp=.venv/.requirements wanted
  [ ! -L .venv ] || return 0
  wanted=$(sha256sum <requirements-dev.lock)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  echo "setup: .venv from requirements-dev.lock"
  [ -x .venv/bin/python ] || python3 -m venv --clear .venv
  # The lock is whole: pip, left to resolve, may find a newer version that has no hash there.
  .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    -r requirements-dev.lock
  echo "$wanted" >"$stamp"
}

system_packages
virtual_environment
[ -n "${KAFKA_BROKERS:-}" ] || .venv/bin/python -m dev.private_kafka
