"""deploy/*.sh and the units, on a machine with a systemd of its own (tests/machine.py)."""

import json
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from dev.tokens import access_token
from tests.deploying import (
    BLUE,
    CLIENTS,
    ETC,
    GREEN,
    INTAKES,
    OPT,
    SOURCE,
    Deployed,
    Traffic,
    expanded,
    fill_in,
    hammered,
    lend_packages,
    next_release,
    packed,
)  # fmt: skip
from tests.machine import Machine
from tests.resuming import Crowd
from tests.running import CHECKOUT, administer, connect, wait_until
from tests.test_receipts import KEY, private
from tracking import __version__
from tracking.store.engine import expected_revision

VIEWERS, TRIPS, UPDATES_PER_S = 300, 30, 30.0
# 4 s where the machine is free: so long a process that stores is away. 13 s were seen at load 16.
OLDEST_S = 40.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    if reason := machine.why_not():
        pytest.skip(reason)
    yield machine.start()
    machine.stop()


@pytest.fixture(scope="module")
def roles(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database whose tables belong to nobody who logs in, as docs/deployment.md sets it up."""
    name = f"deployed_{uuid4().hex[:8]}"
    statements = [
        f"CREATE ROLE {name}_owner NOLOGIN",
        f"CREATE ROLE {name}_service LOGIN PASSWORD 'for-service' IN ROLE {name}_owner",
        f"CREATE ROLE {name}_migrations LOGIN PASSWORD 'for-migrations' IN ROLE {name}_owner",
        f"CREATE DATABASE {name} OWNER {name}_owner",
        f"ALTER ROLE {name}_service IN DATABASE {name} SET role TO {name}_owner",
        f"ALTER ROLE {name}_migrations IN DATABASE {name} SET role TO {name}_owner",
    ]
    for each in statements:
        administer(environ, each)
    with connect(environ, name) as connection:
        connection.cursor().execute("CREATE EXTENSION postgis")
    connection.close()
    yield {**environ, "DB_NAME": name, "KAFKA_TOPIC_PREFIX": name, "KAFKA_GROUP_ID": name}
    administer(environ, f"DROP DATABASE {name} WITH (FORCE)")
    for role in ("service", "migrations", "owner"):
        administer(environ, f"DROP ROLE {name}_{role}")


@pytest.fixture(scope="module")
def deployed(
    machine: Machine, roles: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Not installed yet, but everything that an operator fills in."""
    checkout = next_release(tmp_path_factory.mktemp("source") / "checkout", __version__)
    shutil.copytree(checkout, machine.path(SOURCE))
    said = machine.run(f"{SOURCE}/deploy/install.sh", status=3).stdout
    assert "Fill in /etc/service-tracking/env" in said
    deployed = Deployed(machine, roles, "")
    fill_in(deployed)
    lend_packages(machine)
    yield deployed
    deployed.platform.close()


@pytest.fixture(scope="module")
def installed(deployed: Deployed) -> Deployed:
    said = deployed.machine.run(f"{SOURCE}/deploy/install.sh", status=0).stdout
    print(said)
    deployed.release = said.split(f" is in {OPT}")[0].rsplit(" ", 1)[1]
    return deployed


def test_installed_it_stores_and_serves_under_systemd(installed: Deployed) -> None:
    assert installed.is_active(BLUE, GREEN, *INTAKES) == [True, False, True, True]
    assert installed.machine.shows(BLUE, "StatusText") == ["ready"]
    assert {installed.runs(unit) for unit in (BLUE, *INTAKES)} == {installed.release}
    installed.stores_and_shows()
    assert b"tracking_build_info" in installed.get("/metrics", port=installed.management_port)[1]
    assert installed.get("/metrics")[0] == 404
    name = installed.environ["DB_NAME"]
    with connect(installed.environ) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename ~ '^(track|wayp)'"
        )
        assert cursor.fetchall() == [(f"{name}_owner",)]
        cursor.execute("SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = %s", (name,))
        assert (f"{name}_service",) in cursor.fetchall()
    connection.close()


def test_the_key_of_receipts_is_loaded_once_there_is_one(installed: Deployed) -> None:
    """Without the file the processes have started; the other tests see that."""
    jwks = "/.well-known/jwks.json"
    assert json.loads(installed.get(jwks)[1]) == {"keys": []}
    installed.machine.write(f"{ETC}/receipt_key", private(KEY), 0o600)
    installed.machine.run("systemctl", "restart", BLUE, status=0)
    (key,) = json.loads(installed.get(jwks)[1])["keys"]
    assert key["kty"] == "OKP"
    pid = installed.machine.main_pid(BLUE)
    assert "PRIVATE KEY" not in installed.machine.path(f"/proc/{pid}/environ").read_text()


def units_with(credential: str) -> set[str]:
    folder = CHECKOUT / "deploy" / "systemd"
    wanted = f"LoadCredential={credential}:/etc/service-tracking/{credential}"
    return {p.name for p in folder.rglob("*.*") if p.is_file() and wanted in p.read_text()}


def test_the_key_of_receipts_is_optional_and_only_for_those_who_serve() -> None:
    units = units_with("receipt_key")
    assert units == {"service-tracking-live@.service", "service-tracking-all.service"}
    for name in units:
        lines = (CHECKOUT / "deploy" / "systemd" / name).read_text().splitlines()
        assert "SetCredential=receipt_key:\\n" in lines  # what it is without a file
        assert "Environment=RECEIPT_KEY_FILE=%d/receipt_key" in lines


def test_the_processes_have_no_user_no_rights_and_no_secrets_in_their_environment(
    installed: Deployed,
) -> None:
    machine = installed.machine
    pid = machine.main_pid(BLUE)
    status = machine.run("cat", f"/proc/{pid}/status", status=0).stdout
    assert int(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)[0]) >= 61184  # DynamicUser's
    assert re.findall(r"^CapBnd:\s+(\w+)", status, re.MULTILINE) == ["0" * 16]
    assert "Seccomp:\t2" in status
    environ = machine.path(f"/proc/{pid}/environ").read_text()
    assert "for-service" not in environ
    assert installed.environ["JWT_SECRET"] not in environ


def test_the_journal_knows_how_severe_a_line_is(installed: Deployed) -> None:
    machine, unit = installed.machine, "without-settings.service"
    program = f"WorkingDirectory={OPT}/current\nExecStart={OPT}/current/.venv/bin/python server.py"
    machine.write(f"/etc/systemd/system/{unit}", f"[Service]\nType=oneshot\n{program}\n")
    machine.run("systemctl", "daemon-reload", status=0)
    machine.run("systemctl", "start", unit, status=1)
    log = ["journalctl", "-o", "cat", "-t", "python", "-u"]
    assert "JWT_SECRET: none is set" not in machine.run(*log, unit, "-p", "crit").stdout
    grave = machine.run(*log, unit, "-p", "err").stdout
    assert grave.startswith("JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_URL: none is set")
    assert " INFO " in machine.run(*log, BLUE).stdout
    assert " INFO " not in machine.run(*log, BLUE, "-p", "warning").stdout
    machine.path(f"/etc/systemd/system/{unit}").unlink()


def test_a_second_run_changes_nothing(installed: Deployed) -> None:
    machine = installed.machine
    before = [machine.main_pid(unit) for unit in (BLUE, *INTAKES)]
    env = machine.path(f"{ETC}/env").read_text()
    machine.run(f"{SOURCE}/deploy/install.sh", status=0)
    assert [machine.main_pid(unit) for unit in (BLUE, *INTAKES)] == before
    assert machine.path(f"{ETC}/env").read_text() == env


def test_upgrade_and_rollback_refuse_nobody_and_lose_nothing(
    installed: Deployed, tmp_path: Path
) -> None:
    """With a migration in between, viewers who resume, and requests all the time."""
    checkout = next_release(tmp_path / "next", "9.9.9")
    revision = expanded(checkout)
    new = packed(checkout, installed.machine)
    with Traffic(installed, TRIPS, UPDATES_PER_S) as traffic:
        owner = traffic.trips[0]
        paths = ["/health", f"/api/v1/tracking/{owner.booking_id}"]
        token = access_token(installed.environ["JWT_SECRET"], owner.owner_id, "owner")
        with (
            Crowd(traffic.viewers(installed.port, VIEWERS)) as crowd,
            hammered(installed, paths, token) as hammer,
        ):
            wait_until(crowd.are_right, "everybody watches")
            upgraded(installed, new, revision)
            wait_until(crowd.are_right, "everybody is back after the upgrade")
            refused(installed)
            rolled_back(installed)
            wait_until(crowd.are_right, "everybody is back after the rollback")
            traffic.end()
            wait_until(lambda: traffic.heads().items() >= traffic.sent.items(), "all stored")
            wait_until(lambda: crowd.have(traffic.sent), "all shown")
    saw_everything_once(crowd, times_cut=2)
    assert hammer.failed == []
    assert hammer.answered > 100


def upgraded(installed: Deployed, new: str, revision: str) -> None:
    """To a schema of its own; the release before runs on it while the colours change."""
    print(installed.machine.run(f"{SOURCE}/deploy/upgrade.sh", new, status=0).stdout)
    assert [installed.runs(unit) for unit in (GREEN, *INTAKES)] == ["9.9.9"] * 3
    assert installed.is_active(BLUE, GREEN) == [False, True]
    assert rows(installed, "SELECT version_num FROM alembic_version") == [(revision,)]
    installed.stores_and_shows()


def refused(installed: Deployed) -> None:
    """A rollback, when a migration has taken away what the code before needs."""
    before = expected_revision()
    rows(installed, f"DELETE FROM code_revisions WHERE revision = '{before}' RETURNING 1")
    said = installed.machine.run(f"{OPT}/current/deploy/rollback.sh", status=1).stdout
    assert f"on which the code of {before} does not run: install a newer release" in said
    assert "nothing else was changed" in said
    assert [installed.runs(unit) for unit in (GREEN, *INTAKES)] == ["9.9.9"] * 3
    rows(installed, f"INSERT INTO code_revisions VALUES ('{before}') RETURNING 1")


def rolled_back(installed: Deployed) -> None:
    """The release before stores and serves on the newer schema."""
    said = installed.machine.run(f"{OPT}/current/deploy/rollback.sh", status=0).stdout
    assert f"service-tracking {installed.release} runs." in said
    assert [installed.runs(unit) for unit in (BLUE, *INTAKES)] == [installed.release] * 3
    assert installed.is_active(BLUE, GREEN) == [True, False]
    installed.stores_and_shows()


def saw_everything_once(crowd: Crowd, times_cut: int) -> None:
    away, total = crowd.away_s(), len(crowd.viewers) * times_cut
    print(
        f"{crowd.codes()}, away {away[len(away) // 2]:.2f} s, at most {away[-1]:.2f} s,"
        f" oldest live position {crowd.oldest_s():.2f} s"
    )
    assert crowd.failed() == []
    assert crowd.problems() == []
    assert crowd.codes() == {1001: total}
    assert sum(viewer.recovered for viewer in crowd.viewers) == total
    assert all(sorted(v.points) == list(range(1, v.last + 1)) for v in crowd.viewers)
    assert crowd.oldest_s() < OLDEST_S


def rows(installed: Deployed, statement: str) -> list[tuple[object, ...]]:
    with connect(installed.environ) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        found = list(cursor.fetchall())
    connection.close()
    return found


def test_a_release_that_does_not_become_ready_leaves_the_old_one_serving(
    installed: Deployed, tmp_path: Path
) -> None:
    machine = installed.machine
    broken = 'import sys\nif "--check" not in sys.argv: sys.exit("broken on purpose")\n'
    checkout = next_release(tmp_path / "broken", "9.9.10", roles__starting=broken)
    machine.path("/tmp/broken").mkdir()
    shutil.copytree(checkout, machine.path("/tmp/broken"), dirs_exist_ok=True)
    pid = machine.main_pid(BLUE)
    with hammered(installed) as hammer:
        said = machine.run("/tmp/broken/deploy/upgrade.sh", status=1).stdout
        assert "broken on purpose" in said
    assert hammer.failed == []
    assert machine.main_pid(BLUE) == pid
    assert installed.is_active(BLUE, GREEN) == [True, False]
    said = machine.run(f"{OPT}/current/deploy/rollback.sh", "--list", status=0).stdout
    assert installed.release in said


def test_a_process_that_stands_still_is_killed_and_nobody_is_refused(installed: Deployed) -> None:
    machine = installed.machine
    impatient = "[Service]\nWatchdogSec=4\n"
    machine.write(f"/etc/systemd/system/{BLUE}.d/watchdog.conf", impatient)
    machine.run("systemctl", "daemon-reload", status=0)
    machine.run("systemctl", "restart", BLUE, status=0)
    pid = machine.main_pid(BLUE)
    with hammered(installed) as hammer:
        machine.run("kill", f"-{signal.SIGSTOP.value}", str(pid), status=0)
        wait_until(lambda: machine.main_pid(BLUE) not in (0, pid), "another process")
        wait_until(lambda: installed.is_active(BLUE) == [True], "ready again")
        seen = hammer.answered
        wait_until(lambda: hammer.answered > seen + CLIENTS, "answered again")
    # Four hung in the accepted connections of the process that was killed, at the most.
    assert len(hammer.failed) <= CLIENTS, hammer.failed
    assert f"{BLUE}: Watchdog timeout" in machine.run("journalctl", "-u", BLUE).stdout


def test_removed_it_leaves_only_settings_and_with_purge_nothing(installed: Deployed) -> None:
    machine = installed.machine
    machine.run(f"{SOURCE}/deploy/uninstall.sh", status=0)
    assert installed.traces() == installed.before
    assert machine.path(f"{ETC}/env").exists()
    assert (
        machine.run("systemctl", "list-units", "--all", "--no-legend", "service-tr*").stdout == ""
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", installed.port)).close()
    machine.run(f"{SOURCE}/deploy/uninstall.sh", "--purge", status=0)
    assert not machine.path(ETC).exists()


def test_everything_in_one_process_restarts_without_refusing_anybody(deployed: Deployed) -> None:
    """The machine is as it was before the first installation, but for the packages."""
    machine, everything = deployed.machine, "service-tracking-all.service"
    machine.run(f"{SOURCE}/deploy/uninstall.sh", "--purge", status=0)
    machine.run(f"{SOURCE}/deploy/install.sh", status=3)
    fill_in(deployed)
    lend_packages(machine)
    machine.run(f"{SOURCE}/deploy/install.sh", "--all", status=0)
    assert deployed.is_active(everything, BLUE, *INTAKES) == [True, False, False, False]
    with hammered(deployed) as hammer:
        wait_until(lambda: hammer.answered > CLIENTS, "answered")
        machine.run("systemctl", "restart", everything, status=0)
        seen = hammer.answered
        wait_until(lambda: hammer.answered > seen + CLIENTS, "answered again")
    assert hammer.failed == []
    deployed.stores_and_shows()
