"""How fast a backlog that lies ready in Kafka becomes rows, and reaches viewers."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer
from psycopg2.extensions import connection as Connection
from tornado.websocket import WebSocketClientConnection

from bench.driver import update
from bench.report import REPLACED_RATE, table
from tests.running import Platform, Server, Trip, connect, fresh_database, running_server

TRIPS: Final = 1000
WATCHED: Final = 100
UPDATES: Final = 200_000


def run(environ: dict[str, str]) -> str:
    """The table; some two minutes."""
    rows = []
    for switch in ("off", "on"):
        print(f"bench: backlog of {UPDATES}, tracking.updated {switch}", file=sys.stderr)
        rows.append(_row(environ, switch))
    head = ["tracking.updated", "rows/s", "frames/s to viewers", "bare poll/s", "psql copy rows/s",
            "of bare poll", "of psql copy", "times 53/s"]  # fmt: skip
    return table(head, rows)


def _row(environ: dict[str, str], switch: str) -> list[str]:
    with fresh_database(environ) as own, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        fleet = [Trip(datetime.now(UTC) - timedelta(days=1)) for _ in range(TRIPS)]
        with (
            closing(connect(own)) as connection,
            running_server(own, log, TRACKING_UPDATED=switch) as server,
        ):
            connection.autocommit = True
            _accept(server, fleet)
            _wait(connection, "SELECT count(*) FROM tracks", TRIPS)
            server.stop()
            topic = f"{server.environ['KAFKA_TOPIC_PREFIX']}.runner.events"
            _produce(own["KAFKA_BROKERS"], topic, fleet)
            poll = _bare_poll(own["KAFKA_BROKERS"], topic)
            server.start()
            rows, frames = asyncio.run(_drain(server, connection, fleet))
            copied = _psql_copy(own, connection, Path(folder) / "rows.csv")
    return [
        switch, f"{rows:,.0f}", f"{frames:,.0f}", f"{poll:,.0f}", f"{copied:,.0f}",
        f"{rows / poll:.2f}", f"{rows / copied:.2f}", f"{rows / REPLACED_RATE:,.0f}",
    ]  # fmt: skip


def _accept(server: Server, fleet: list[Trip]) -> None:
    platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
    for trip in fleet:
        platform.accept(trip)
    platform.update(fleet[0], 0)  # makes the other topic
    platform.close()


def _produce(brokers: str, topic: str, fleet: list[Trip]) -> None:
    """Every trip's updates one second apart, the trips in turn."""
    producer = KafkaProducer(bootstrap_servers=brokers, linger_ms=20, batch_size=262_144)
    people = [trip.identity() for trip in fleet]
    for number in range(UPDATES):
        trip = number % TRIPS
        at = fleet[trip].at(1 + number // TRIPS)
        producer.send(topic, value=update(people[trip], number, at))
    producer.flush(timeout=120)
    producer.close(timeout=5)


def _bare_poll(brokers: str, topic: str) -> float:
    job = {"kind": "rate", "brokers": brokers, "topic": topic, "count": UPDATES}
    done = subprocess.run(
        [sys.executable, "-m", "bench.poller"],
        input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


async def _drain(server: Server, connection: Connection, fleet: list[Trip]) -> tuple[float, float]:
    """Rows a second between the first and the last commit seen; frames a second meanwhile."""
    token = server.token(fleet[0].owner_id, "admin")
    frames = [0]
    sockets = [await server.watch(trip.booking_id, token) for trip in fleet[:WATCHED]]
    readers = [asyncio.create_task(_count(socket, frames)) for socket in sockets]
    first, begun, stored, frames_before = 0.0, 0, 0, 0
    while stored < UPDATES:
        stored = await asyncio.to_thread(_scalar, connection, "SELECT sum(head_seq) FROM tracks")
        if not first and stored > 1:
            first, begun, frames_before = time.perf_counter(), stored, frames[0]
        await asyncio.sleep(0.05)
    elapsed = time.perf_counter() - first
    seen = frames[0] - frames_before
    for socket in sockets:
        socket.close()
    await asyncio.gather(*readers)
    return (stored - begun) / elapsed, seen / elapsed


async def _count(socket: WebSocketClientConnection, frames: list[int]) -> None:
    while await socket.read_message() is not None:
        frames[0] += 1


def _scalar(connection: Connection, statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return int(row[0] or 0) if row else 0


def _wait(connection: Connection, statement: str, count: int) -> None:
    while _scalar(connection, statement) < count:
        time.sleep(0.1)


def _psql_copy(environ: Mapping[str, str], connection: Connection, path: Path) -> float:
    """The same rows by psql into a table with the same columns and indexes."""
    with connection.cursor() as cursor, path.open("w") as out:
        cursor.copy_expert("COPY (SELECT * FROM waypoints ORDER BY seq) TO STDOUT", out)
        cursor.execute("CREATE TABLE copied (LIKE waypoints INCLUDING ALL)")
    libpq = {
        "PGHOST": environ["DB_HOST"],
        "PGPORT": environ["DB_PORT"],
        "PGUSER": environ["DB_USER"],
        "PGPASSWORD": environ["DB_PASSWORD"],
        "PGDATABASE": environ["DB_NAME"],
        "PATH": "/usr/bin:/bin",
    }
    started = time.perf_counter()
    subprocess.run(["psql", "-q", "-c", f"\\copy copied FROM '{path}'"], env=libpq, check=True)
    return UPDATES / (time.perf_counter() - started)
