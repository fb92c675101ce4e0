"""From records in memory to committed rows: numbered, measured, heads moved, on one thread."""

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

import sqlalchemy as sa

from bench import floors
from bench.driver import update
from bench.report import table
from server import GC_THRESHOLDS
from tests.running import Trip, connect, fresh_database
from tracking.domain.decoding import decode
from tracking.domain.events import BookingEvent, Event
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.track_cache import TrackCache

BATCH: Final = 5_000
ROWS: Final = 100_000
# Rounds of everything in turn: the machine's speed drifts, the ratio of a round less.
ROUNDS: Final = 5
TRIPS: Final = (100, 1_000)


def run(environ: dict[str, str]) -> str:
    """The table; some two minutes."""
    gc.set_threshold(*GC_THRESHOLDS)  # as the server does
    rows = []
    for trips in TRIPS:
        print(f"bench: store, {trips} trips", file=sys.stderr)
        rounds = [_round(environ, trips) for _ in range(ROUNDS)]
        rows.append(_row(trips, rounds))
    head = ["trips", "rows/s", "decoding included", "replay", "psql copy", "execute_values",
            "of psql copy", "times execute_values", "replay of first"]  # fmt: skip
    return (
        f"{ROWS:,} rows of trips in turn, {BATCH:,} in a transaction; medians of {ROUNDS} rounds."
        f"\n\n{table(head, rows)}"
    )


def _row(trips: int, rounds: list[tuple[float, ...]]) -> list[str]:
    stored, decoded, replayed, copied, inserted = (median(r[i] for r in rounds) for i in range(5))
    return [
        f"{trips:,}", *(f"{n:,.0f}" for n in (stored, decoded, replayed, copied, inserted)),
        f"{median(r[0] / r[3] for r in rounds):.2f}", f"{median(r[0] / r[4] for r in rounds):.1f}",
        f"{median(r[2] / r[0] for r in rounds):.2f}",
    ]  # fmt: skip


def _round(environ: dict[str, str], trips: int) -> tuple[float, ...]:
    """Rows a second: stored, decoded and stored, replayed, by psql, by execute_values."""
    with fresh_database(environ) as own, tempfile.TemporaryDirectory() as folder:
        engine = create_engine(DatabaseSettings.from_environment(own), name="bench", ping=False)
        fleet = accepted_fleet(engine, trips)
        records = _records(fleet)
        started = time.perf_counter()
        events = decoded(records)
        decoding = time.perf_counter() - started
        stored = _seconds(lambda: store(engine, events))
        replayed = _seconds(lambda: store(engine, events))
        engine.dispose()
        with closing(connect(own)) as connection:
            connection.autocommit = True
            copied = floors.psql_copy(own, connection, Path(folder))
            connection.autocommit = False
            inserted = floors.execute_values(connection, BATCH)
    return ROWS / stored, ROWS / (stored + decoding), ROWS / replayed, copied, inserted


def _seconds(work: Callable[[], None]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def accepted_fleet(engine: sa.Engine, trips: int) -> list[Trip]:
    """Trips that have begun yesterday."""
    fleet = [Trip(datetime.now(UTC) - timedelta(days=1)) for _ in range(trips)]
    accepted = [
        BookingEvent(t.booking_id, "accepted", t.start, t.runner_id, t.owner_id) for t in fleet
    ]
    store_batch(engine, accepted)
    return fleet


def _records(fleet: list[Trip]) -> list[bytes]:
    people = [trip.identity() for trip in fleet]
    numbers = [divmod(n, len(fleet)) for n in range(ROWS)]
    return [update(people[trip], n, fleet[trip].at(1 + n)) for n, trip in numbers]


def decoded(records: list[bytes]) -> list[Event]:
    now = datetime.now(UTC)
    found = (decode("runner.events", record, [], now).event for record in records)
    return [event for event in found if event is not None]


def store(engine: sa.Engine, events: list[Event]) -> None:
    """As ingest does it when the backlog never ends."""
    known = TrackCache()
    for first in range(0, len(events), BATCH):
        store_batch(engine, events[first : first + BATCH], (), known)
