"""What stands beside our figures: the same rows by psql and execute_values, a bare poll loop."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg2.extras
from psycopg2.extensions import connection as Connection

from bench.producing import drive, make_topics
from bench.report import Quantiles, quantiles

COLUMNS: Final = (
    "track_id, recorded_at, runner_id, reported_at, seq, received_at, position, speed_kmh,"
    " heading_degrees"
)
# The options of a bare consumer that counts what lies ready.
POLL_WAYS: Final[tuple[dict[str, int], ...]] = (
    {"max_poll_records": 500},
    {"max_poll_records": 5_000},
    {"max_poll_records": 5_000, "max_partition_fetch_bytes": 4 << 20},
)
POLL_ROUNDS: Final = 2


def produce_to_poll(job: dict[str, Any]) -> Quantiles:
    """Milliseconds of the job's load from bare kafka-python to bare kafka-python.

    The job is that of `bench.producing.drive`; its topic is replaced by one that nobody else reads.
    """
    prefix = f"floor-{uuid4().hex[:12]}"
    make_topics(job["brokers"], prefix)
    job = {**job, "topic": f"{prefix}.runner.events"}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.poller"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as poller:  # fmt: skip
        assert poller.stdin is not None
        assert poller.stdout is not None
        count = job["rate"] * job["seconds"]
        poller.stdin.write(json.dumps({**job, "kind": "latencies", "count": count}))
        poller.stdin.close()
        poller.stdout.readline()  # ready
        drive(job)
        return quantiles(json.loads(poller.stdout.read()))


def psql_copy(environ: Mapping[str, str], connection: Connection, folder: Path) -> float:
    """Rows a second of `\\copy` into a table like `waypoints`: partitions, indexes and all.

    The rows are those that `waypoints` has, in the order in which they were recorded. The
    connection commits by itself; each call leaves nothing behind.
    """
    path, twin = folder / "rows", _twin(connection)
    count = _dump(connection, path)
    started = time.perf_counter()
    psql(environ, f"\\copy {twin} ({COLUMNS}) FROM '{path}'")
    elapsed = time.perf_counter() - started
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {twin}")
    return count / elapsed


def execute_values(connection: Connection, batch: int) -> float:
    """Rows a second of multi-row INSERTs, a transaction for each batch, into such a table."""
    twin = _twin(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {COLUMNS} FROM waypoints ORDER BY recorded_at")
        rows = cursor.fetchall()
        started = time.perf_counter()
        for first in range(0, len(rows), batch):
            part = rows[first : first + batch]
            psycopg2.extras.execute_values(
                cursor, f"INSERT INTO {twin} ({COLUMNS}) VALUES %s", part, page_size=len(part)
            )
        elapsed = time.perf_counter() - started
        cursor.execute(f"DROP TABLE {twin}")
    return len(rows) / elapsed


def _twin(connection: Connection) -> str:
    """An empty table partitioned as `waypoints` is."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE twin (LIKE waypoints INCLUDING ALL)"
                       " PARTITION BY RANGE (recorded_at)")  # fmt: skip
        cursor.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'waypoints'::regclass"
        )
        for name, bounds in cursor.fetchall():
            cursor.execute(f"CREATE TABLE twin_{name} PARTITION OF twin {bounds}")
    return "twin"


def _dump(connection: Connection, path: Path) -> int:
    with connection.cursor() as cursor, path.open("w") as out:
        query = f"SELECT {COLUMNS} FROM waypoints ORDER BY recorded_at"
        cursor.copy_expert(f"COPY ({query}) TO STDOUT", out)
        return int(cursor.rowcount)


def psql(environ: Mapping[str, str], command: str) -> None:
    libpq = {
        "PGHOST": environ["DB_HOST"],
        "PGPORT": environ["DB_PORT"],
        "PGUSER": environ["DB_USER"],
        "PGPASSWORD": environ["DB_PASSWORD"],
        "PGDATABASE": environ["DB_NAME"],
        "PATH": "/usr/bin:/bin",
    }
    subprocess.run(["psql", "-q", "-c", command], env=libpq, check=True)


def bare_poll(brokers: str, topic: str, count: int) -> float:
    """Records a second of kafka-python alone, that only counts: the best of several ways."""
    job = {"kind": "rate", "brokers": brokers, "topic": topic, "count": count}
    return max(_poll_rate({**job, "options": way}) for way in POLL_WAYS for _ in range(POLL_ROUNDS))


def _poll_rate(job: Mapping[str, Any]) -> float:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.poller"],
        input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)
