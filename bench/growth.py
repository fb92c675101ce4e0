"""Does storing slow down as the table grows, and how many bytes does a waypoint take?"""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Final

import sqlalchemy as sa
from psycopg2.extensions import connection as Connection

from bench.report import table
from bench.store import BATCH, accepted_fleet, store
from server import GC_THRESHOLDS
from tests.running import Trip, connect, fresh_database
from tracking.domain.events import LocationUpdate
from tracking.settings import DatabaseSettings
from tracking.store import partitions
from tracking.store.engine import create_engine

STORED: Final = 10_000_000
# A trip of an hour and a half, one waypoint every five seconds.
OF_A_TRIP: Final = 1_000
TRIPS: Final = 500
ROWS: Final = 100_000
ROUNDS: Final = 5


def run(environ: dict[str, str]) -> str:
    """The table; some five minutes."""
    gc.set_threshold(*GC_THRESHOLDS)
    with _database(environ) as (small, _), _database(environ) as (large, connection):
        print(f"bench: growth, filling in {STORED:,} waypoints", file=sys.stderr)
        bytes_each = _fill(connection)
        # In turn, since the machine's speed drifts.
        rates = [(_rate(small), _rate(large)) for _ in range(ROUNDS)]
    head = ["rows/s into an empty table", f"beside {STORED:,} rows", "ratio", "bytes a row",
            "of them indexes"]  # fmt: skip
    empty, full = (median(rate) for rate in zip(*rates, strict=True))
    ratio = median(full / empty for empty, full in rates)
    row = [f"{empty:,.0f}", f"{full:,.0f}", f"{ratio:.2f}", *(f"{n:.0f}" for n in bytes_each)]
    return f"Medians of {ROUNDS} rounds, {BATCH:,} in a transaction.\n\n{table(head, [row])}"


@contextmanager
def _database(environ: dict[str, str]) -> Iterator[tuple[sa.Engine, Connection]]:
    with fresh_database(environ) as own, closing(connect(own)) as connection:
        connection.autocommit = True
        engine = create_engine(DatabaseSettings.from_environment(own), name="bench", ping=False)
        yield engine, connection
        engine.dispose()


def _fill(connection: Connection) -> tuple[float, float]:
    """Last weeks' trips, in today's partition too; bytes of a row on disk, and of its indexes."""
    with connection.cursor() as cursor:
        now = datetime.now(UTC)
        partitions.ensure(cursor, [now - timedelta(days=n) for n in range(60)])
        cursor.execute(
            """
            INSERT INTO waypoints (track_id, recorded_at, runner_id, reported_at, seq, received_at,
                                   position, speed_kmh, heading_degrees)
            SELECT track, at, runner, at, seq, at,
                   ST_SetSRID(ST_MakePoint(106.8 + seq * 1e-5, -6.2), 4326), 36.5, 90
            FROM (SELECT gen_random_uuid() AS track, gen_random_uuid() AS runner,
                         now() - random() * interval '30 days' AS begin
                  FROM generate_series(1, %s)) t
            CROSS JOIN LATERAL (SELECT seq, begin + seq * interval '5 seconds' AS at
                                FROM generate_series(1, %s) seq) w
            """,
            (STORED // OF_A_TRIP, OF_A_TRIP),
        )
        cursor.execute("VACUUM ANALYZE waypoints")
        cursor.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)), sum(pg_indexes_size(inhrelid))"
            " FROM pg_inherits WHERE inhparent = 'waypoints'::regclass"
        )
        total, indexes = cursor.fetchone() or (0, 0)
    return float(total) / STORED, float(indexes) / STORED


def _rate(engine: sa.Engine) -> float:
    fleet = accepted_fleet(engine, TRIPS)
    events = [_update(fleet[n % TRIPS], n // TRIPS) for n in range(ROWS)]
    gc.collect()
    started = time.perf_counter()
    store(engine, list(events))
    return ROWS / (time.perf_counter() - started)


def _update(trip: Trip, second: int) -> LocationUpdate:
    at = trip.at(1 + second)
    return LocationUpdate(
        trip.runner_id, trip.booking_id, 106.8 + second * 1e-5, -6.2, 36.5, 90.0, at, at, at
    )
