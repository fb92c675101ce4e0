"""PostgreSQL stopped, cut off, locked, full. All of it is transient, and nothing is lost."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from faults.scenario import Scenario, pause
from tests.running import connect, wait_until

# After the database is back.
BACK_S = 5.0
# pg_ctl's names for what the postmaster does at these signals.
MODES = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
OURS = "pid <> pg_backend_pid() AND application_name LIKE 'service-tracking%'"


@pytest.mark.parametrize("mode", MODES)
def test_postgresql_is_stopped_for_a_while(scenario: Scenario, outage_s: float, mode: str) -> None:
    scenario.play(outage_s + 6)
    member = scenario.member()
    postgres, before = scenario.world.postgres, scenario.server.usage()
    assert postgres.pid is not None
    postgres_signal(scenario, MODES[mode])
    while_it_lasts(scenario, outage_s, away=mode != "smart")
    assert scenario.server.usage().resident_mib - before.resident_mib < 32
    postgres.stop()
    postgres.start()
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove()
    assert scenario.member() == member, "the consumer left its group"


def test_backends_are_terminated_all_the_time(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 4)
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        administer(scenario, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
        pause(0.2)
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove()


def test_the_answer_to_commit_is_lost(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 4)
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        scenario.proxy.lose_answers(1)
        pause(0.4)
    scenario.drain()
    assert scenario.proxy.lost_answers >= 5
    scenario.prove()


def test_a_table_is_locked(scenario: Scenario, outage_s: float) -> None:
    """Those who only read go on, and so does the loop."""
    scenario.play(outage_s + 6)
    lock = connect(scenario.environ)
    late_before, all_before = loop_delays(scenario)
    lock.cursor().execute("LOCK TABLE waypoints IN EXCLUSIVE MODE")
    before = scenario.stored()
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        assert scenario.an_owner_asks() == 200
        assert scenario.server.asks("/health")[0] == 200
        pause(0.2)
    late, of_all = loop_delays(scenario)
    assert late - late_before <= (of_all - all_before) * 0.01 + 1, "the loop was late"
    assert scenario.stored() == before, "the lock locked nothing"
    lock.rollback()
    lock.close()
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove()


@pytest.mark.parametrize("fault", ["hang", "cut"])
def test_the_network_to_postgresql_is_gone(scenario: Scenario, outage_s: float, fault: str) -> None:
    scenario.play(outage_s + 6)
    getattr(scenario.proxy, fault)()
    while_it_lasts(scenario, outage_s, away=True)
    scenario.proxy.heal()
    # A connection that hung may have to time out first: 10 s without an acknowledgement.
    scenario.goes_on_within(BACK_S + 10)
    scenario.drain()
    scenario.prove()


def test_no_connection_is_left(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 6)
    held: list[Connection] = []
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        try:
            held.append(connect(scenario.environ, "postgres"))
            held[-1].cursor().execute(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"
            )
        except psycopg2.Error:  # all taken
            pause(0.05)
    assert len(held) > 10
    assert scenario.server.asks("/health")[0] == 200
    for each in held:
        each.close()
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove()


def test_the_database_is_read_only(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 6)
    make_read_only(scenario, "on")
    while_it_lasts(scenario, outage_s, away=False)
    make_read_only(scenario, "off")
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove()


def test_the_disk_is_full(scenario: Scenario, outage_s: float, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        move_database(scenario, disk)
        scenario.play(outage_s + 6)
        fill(disk)
        wait_until(lambda: "could not extend file" in scenario.log.read_text(), "full", 30)
        while_it_lasts(scenario, outage_s, away=False)
        (disk / "ballast").unlink()
        scenario.goes_on_within(BACK_S)
        scenario.drain()
        scenario.prove()
        scenario.server.stop()
        move_database(scenario, None)


def while_it_lasts(scenario: Scenario, seconds: float, *, away: bool) -> None:
    """Health answers, and REST in time: that the database is away, or what is stored."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert scenario.an_owner_asks() == (503 if away else 200)
        assert scenario.server.asks("/health")[0] == 200
        pause(0.3)


def postgres_signal(scenario: Scenario, number: int) -> None:
    pid = scenario.world.postgres.pid
    assert pid is not None
    subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)


def administer(scenario: Scenario, statement: str) -> None:
    connection = connect(scenario.environ, "postgres")
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def make_read_only(scenario: Scenario, state: str) -> None:
    administer(scenario, f"ALTER SYSTEM SET default_transaction_read_only = {state}")
    administer(scenario, "SELECT pg_reload_conf()")


def loop_delays(scenario: Scenario) -> tuple[float, float]:
    """How often the loop was more than 50 ms late, and how often it was looked at."""
    late = scenario.server.metric("tracking_loop_delay_seconds_bucket", le="0.05")
    of_all = scenario.server.metric("tracking_loop_delay_seconds_count")
    return of_all - late, of_all


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 64 MiB that PostgreSQL may use."""
    disk = Path("/var/tmp") / f"faults-{directory.name}-{time.monotonic_ns()}"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "faults", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        disk.rmdir()
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


def move_database(scenario: Scenario, disk: Path | None) -> None:
    """To a tablespace on this disk, or back from it."""
    if disk is not None:
        space = disk / "space"
        space.mkdir()
        user = scenario.world.postgres.owner()
        if user is not None:
            subprocess.run(["chown", str(user), str(space)], check=True)
        administer(scenario, f"CREATE TABLESPACE small LOCATION '{space}'")
    target = "pg_default" if disk is None else "small"
    administer(scenario, f"ALTER DATABASE {scenario.environ['DB_NAME']} SET TABLESPACE {target}")
    if disk is None:
        administer(scenario, "DROP TABLESPACE small")


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass
