"""One backlog, and one process or two that store it: rows a second, CPU, waits for row locks."""

import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from bench.cpu import TICKS_PER_SECOND
from bench.producing import PARTITIONS, make_topics, produce, values
from bench.report import table
from tests.running import (
    Platform,
    Server,
    Trip,
    connect,
    fresh_database,
    running_server,
    started_server,
    wait_until,
)

TRIPS: Final = 1_000
UPDATES: Final = 100_000
DEADLINE_S: Final = 600.0
LOOK_S: Final = 0.02
INGEST: Final = ("server.py", "--role", "ingest")
# name, processes, whether the record keys are the bookings, KAFKA_KEYED_BY
RUNS: Final = (
    ("one process, role all", 0, False, "event"),
    ("one process, role ingest", 1, False, "event"),
    ("two, random keys", 2, False, "event"),
    ("two, random keys, not passed on", 2, False, "booking"),
    ("two, keyed by booking", 2, True, "booking"),
)
LOCKS: Final = """
    SELECT count(*) FILTER (WHERE xact_start IS NOT NULL),
           count(*) FILTER (WHERE wait_event_type = 'Lock')
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Drained(NamedTuple):
    """One backlog, from the first row of the slowest process to the last of all."""

    rate: float  # records a second
    cpu_us: float  # of all processes that store, for each record
    in_transaction: float  # sessions, in the mean
    waiting: float  # of these, for a lock
    forwarded: float  # share of the records


def run(environ: dict[str, str]) -> str:
    """The table; some three minutes."""
    rows = []
    first: Drained | None = None
    for name, processes, by_booking, keyed_by in RUNS:
        print(f"bench: group, {name}", file=sys.stderr)
        found = _drained(environ, max(processes, 1), processes > 0, by_booking, keyed_by)
        first = first or found
        share = found.waiting / found.in_transaction if found.in_transaction else 0.0
        rows.append(
            [
                name, f"{found.rate:,.0f}", f"{found.rate / first.rate:.2f}",
                f"{found.cpu_us:.0f}", f"{found.cpu_us / first.cpu_us:.2f}",
                f"{found.waiting:.2f} of {found.in_transaction:.2f}", f"{share:.2f}",
                f"{found.forwarded:.2f}",
            ]
        )  # fmt: skip
    head = ["", "records/s", "of one", "CPU of the service, µs a record", "of one",
            "sessions that wait for a lock, of those in a transaction", "share",
            "records passed on"]  # fmt: skip
    return (
        f"{UPDATES:,} updates of {TRIPS:,} trips lie ready, {PARTITIONS} partitions, nobody"
        f" watches, TRACKING_UPDATED=off.\n\n{table(head, rows)}"
    )


def _drained(
    environ: dict[str, str], processes: int, apart: bool, by_booking: bool, keyed_by: str
) -> Drained:
    with ExitStack() as stack:
        own = stack.enter_context(fresh_database(environ))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prefix = f"bench-{uuid4().hex[:12]}"
        settings = {"KAFKA_TOPIC_PREFIX": prefix, "KAFKA_GROUP_ID": prefix,
                    "TRACKING_UPDATED": "off", "KAFKA_KEYED_BY": keyed_by}  # fmt: skip
        program = INGEST if apart else ("server.py",)
        fleet = _accepted(own, folder, prefix, settings)
        produce(
            environ["KAFKA_BROKERS"], f"{prefix}.runner.events", values(fleet, UPDATES, 0.0),
            by_booking=by_booking,
        )  # fmt: skip
        servers = [
            stack.enter_context(started_server(own, folder / f"log-{number}", program, **settings))
            for number in range(processes)
        ]
        return _watched(servers, own)


def _accepted(
    environ: dict[str, str], folder: Path, prefix: str, settings: dict[str, str]
) -> list[Trip]:
    """Trips that have begun; nothing runs any more."""
    fleet = [Trip(datetime.now(UTC) - timedelta(days=1)) for _ in range(TRIPS)]
    make_topics(environ["KAFKA_BROKERS"], prefix)
    with running_server(environ, folder / "first", **settings) as server:
        platform = Platform(environ["KAFKA_BROKERS"], prefix)
        for trip in fleet:
            platform.accept(trip)
        platform.close()
        wait_until(lambda: _outcomes([server]) >= TRIPS, "trips accepted")
    return fleet


def _watched(servers: Sequence[Server], environ: dict[str, str]) -> Drained:
    wait_until(lambda: all(_outcomes([each]) for each in servers), "all have begun", DEADLINE_S)
    begun, cpu, started = _outcomes(servers), _cpu_s(servers), time.perf_counter()
    with _locks(environ) as counts:
        deadline = time.monotonic() + DEADLINE_S
        while (done := _outcomes(servers)) < UPDATES:
            assert time.monotonic() < deadline, f"{done} of {UPDATES} after {DEADLINE_S} s"
            time.sleep(0.2)
        elapsed, used = time.perf_counter() - started, _cpu_s(servers) - cpu
    forwarded = sum(each.metric("tracking_records_forwarded_total") for each in servers)
    records, looks = UPDATES - begun, max(len(counts), 1)
    return Drained(
        records / elapsed,
        used / records * 1e6,
        sum(each[0] for each in counts) / looks,
        sum(each[1] for each in counts) / looks,
        forwarded / UPDATES,
    )


@contextmanager
def _locks(environ: dict[str, str]) -> Iterator[list[tuple[Any, ...]]]:
    """Looks at the sessions until the end of the block."""
    found: list[tuple[Any, ...]] = []
    over = threading.Event()

    def look() -> None:
        with closing(connect(environ)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not over.wait(LOOK_S):
                cursor.execute(LOCKS)
                found.extend(cursor.fetchall())

    thread = threading.Thread(target=look)
    thread.start()
    yield found
    over.set()
    thread.join()


def _outcomes(servers: Sequence[Server]) -> float:
    return sum(each.metric("tracking_events_total") for each in servers)


def _cpu_s(servers: Sequence[Server]) -> float:
    found = 0.0
    for each in servers:
        assert each.process is not None
        fields = Path(f"/proc/{each.process.pid}/stat").read_text().rpartition(")")[2].split()
        found += sum(int(field) for field in fields[11:13]) / TICKS_PER_SECOND
    return found
