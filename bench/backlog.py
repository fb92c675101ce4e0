"""A backlog that lies ready in Kafka becomes rows: how fast, at which cost, again, with poison."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from psycopg2.extensions import connection as Connection
from tornado.websocket import WebSocketClientConnection

from bench import floors
from bench.cpu import cpu_seconds
from bench.driver import update
from bench.report import REPLACED_RATE, table
from tests.running import (
    Platform,
    Server,
    Trip,
    connect,
    fresh_database,
    running_server,
    wait_until,
)

TRIPS: Final = 1_000
WATCHED: Final = 100
UPDATES: Final = 1_000_000
POISONED: Final = 200_000
DEADLINE_S: Final = 900.0
TABLES: Final = ("tracks", "waypoints", "booking_facts", "assignments", "outbox", "parked_updates")


class Drained(NamedTuple):
    """One backlog, from the first outcome to the last."""

    rate: float  # records a second
    frames: float  # a second, to all viewers
    cpu_us: dict[str, float]  # for each record, by stage


def run(environ: dict[str, str]) -> str:
    """The tables; some eight minutes."""
    with tempfile.TemporaryDirectory() as folder:
        off, again, poll, copied = _stored_and_replayed(environ, Path(folder))
        on, poll_on = _updated(environ, Path(folder))
        clean, poisoned = (_mixed(environ, Path(folder), share) for share in (0.0, 0.1))
    rates = [
        _row("tracking.updated off", off, poll),
        _row("the same million again: nothing changes", again, poll),
        _row("tracking.updated on", on, poll_on),
        _row("clean, 200,000", clean, poll),
        _row("10 % of them malformed", poisoned, poll),
    ]
    head = ["backlog", "records/s", "of bare poll", "frames/s", f"times {REPLACED_RATE:.0f}/s"]
    return "\n\n".join(
        [
            f"{UPDATES:,} updates of {TRIPS:,} trips, {WATCHED} of them watched. Bare poll"
            f" {poll:,.0f} and {poll_on:,.0f} records/s; psql copy {copied:,.0f} rows/s.",
            table(head, rates),
            "CPU for each record by stage, µs:",
            _stages({"off": off, "again": again, "on": on, "10 % malformed": poisoned}),
            f"Again / first: {again.rate / off.rate:.2f}. Malformed / clean:"
            f" {poisoned.rate / clean.rate:.2f}.",
        ]
    )


def _row(name: str, drained: Drained, poll: float) -> list[str]:
    return [
        name, f"{drained.rate:,.0f}", f"{drained.rate / poll:.2f}", f"{drained.frames:,.0f}",
        f"{drained.rate / REPLACED_RATE:,.0f}",
    ]  # fmt: skip


def _stages(runs: Mapping[str, Drained]) -> str:
    names = sorted({name for each in runs.values() for name in each.cpu_us})
    rows = [
        [name, *(f"{each.cpu_us.get(name, 0):.1f}" for each in runs.values())] for name in names
    ]
    total = [f"{sum(each.cpu_us.values()):.1f}" for each in runs.values()]
    return table(["stage", *runs], [*rows, ["all", *total]])


def _stored_and_replayed(
    environ: dict[str, str], folder: Path
) -> tuple[Drained, Drained, float, float]:
    """First and second time, the bare poll, psql; the second time changes no row."""
    with _backlog(environ, folder, UPDATES, TRACKING_UPDATED="off") as (server, fleet, topic):
        poll = floors.bare_poll(environ["KAFKA_BROKERS"], topic, UPDATES)
        with closing(connect(server.environ)) as connection:
            connection.autocommit = True
            first = _drain(server, fleet, UPDATES)
            before = _dump(connection)
            server.stop()
            _rewind(server, topic)
            again = _drain(server, fleet, UPDATES)
            assert _dump(connection) == before, "a replay changed rows"
            server.stop()
            copied = floors.psql_copy(server.environ, connection, folder)
    return first, again, poll, copied


def _updated(environ: dict[str, str], folder: Path) -> tuple[Drained, float]:
    with _backlog(environ, folder, UPDATES, TRACKING_UPDATED="on") as (server, fleet, topic):
        poll = floors.bare_poll(environ["KAFKA_BROKERS"], topic, UPDATES)
        return _drain(server, fleet, UPDATES), poll


def _mixed(environ: dict[str, str], folder: Path, poison: float) -> Drained:
    """A smaller backlog of which a share is malformed."""
    settings = {"TRACKING_UPDATED": "off"}
    with _backlog(environ, folder, POISONED, poison, **settings) as (server, fleet, _):
        drained = _drain(server, fleet, POISONED)
        dead = server.metric("tracking_events_total", outcome="dead")
        assert dead == round(POISONED * poison), f"{dead} dead"
        return drained


@contextmanager
def _backlog(
    environ: dict[str, str], folder: Path, count: int, poison: float = 0.0, **settings: str
) -> Iterator[tuple[Server, list[Trip], str]]:
    """A stopped server whose updates lie ready, its trips, and the topic's name."""
    print(f"bench: backlog of {count:,}, {settings}, malformed {poison:.0%}", file=sys.stderr)
    fleet = [Trip(datetime.now(UTC) - timedelta(days=1)) for _ in range(TRIPS)]
    with (
        fresh_database(environ) as own,
        running_server(own, folder / "log", MAX_VIEWERS_PER_USER="0", **settings) as server,
    ):
        brokers, prefix = environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"]
        platform = Platform(brokers, prefix)
        for trip in fleet:
            platform.accept(trip)
        wait_until(lambda: _outcomes(server) >= TRIPS, "trips accepted")
        platform.close()
        server.stop()
        topic = f"{prefix}.runner.events"
        produce(brokers, topic, values(fleet, count, poison))
        yield server, fleet, topic


def values(fleet: list[Trip], count: int, poison: float) -> Iterator[bytes]:
    """Every trip's updates one second apart, the trips in turn; evenly spread poison."""
    people = [trip.identity() for trip in fleet]
    for number in range(count):
        second, trip = divmod(number, TRIPS)
        value = update(people[trip], number, fleet[trip].at(1 + second))
        is_malformed = int(number * poison) != int((number + 1) * poison)
        yield value.replace(b'"latitude"', b'"attitude"') if is_malformed else value


def produce(brokers: str, topic: str, values: Iterable[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=brokers, linger_ms=20, batch_size=262_144)
    for value in values:
        producer.send(topic, value=value)
    producer.flush(timeout=120)
    producer.close(timeout=5)


def _drain(server: Server, fleet: list[Trip], count: int) -> Drained:
    """Start the server and wait until every record has its outcome."""
    server.start()
    return asyncio.run(_watch_drain(server, fleet, count))


async def _watch_drain(server: Server, fleet: list[Trip], count: int) -> Drained:
    token = server.token(fleet[0].owner_id, "admin")
    frames = [0]
    sockets = [await server.watch(trip.booking_id, token) for trip in fleet[:WATCHED]]
    readers = [asyncio.create_task(_count(socket, frames)) for socket in sockets]
    deadline = time.monotonic() + DEADLINE_S
    begun = done = started = 0.0
    seen_before, cpu_before = 0, dict[str, float]()
    while done < count:
        assert time.monotonic() < deadline, f"{done} of {count} after {DEADLINE_S} s"
        done = await asyncio.to_thread(_outcomes, server)
        if done and not begun:
            begun, started, seen_before = done, time.perf_counter(), frames[0]
            cpu_before = await asyncio.to_thread(cpu_seconds, server)
        await asyncio.sleep(0.1)
    elapsed = time.perf_counter() - started
    cpu, seen = await asyncio.to_thread(cpu_seconds, server), frames[0] - seen_before
    for socket in sockets:
        socket.close()
    await asyncio.gather(*readers)
    records = done - begun
    cost = {name: (cpu[name] - cpu_before.get(name, 0.0)) / records * 1e6 for name in cpu}
    return Drained(records / elapsed, seen / elapsed, cost)


async def _count(socket: WebSocketClientConnection, frames: list[int]) -> None:
    while await socket.read_message() is not None:
        frames[0] += 1


def _outcomes(server: Server) -> float:
    return server.metric("tracking_events_total")


def _rewind(server: Server, topic: str) -> None:
    """The stopped server's group begins at the oldest record again."""
    consumer = KafkaConsumer(
        bootstrap_servers=server.environ["KAFKA_BROKERS"],
        group_id=server.environ["KAFKA_GROUP_ID"],
        enable_auto_commit=False,
    )
    places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(places)
    start: dict[Any, Any] = {place: OffsetAndMetadata(0, "", -1) for place in places}
    wait_until(lambda: _committed(consumer, start), "the group is empty")
    consumer.close(autocommit=False, timeout_ms=5_000)


def _committed(consumer: KafkaConsumer, offsets: dict[Any, Any]) -> bool:
    """False while the stopped member is still in the group."""
    try:
        consumer.commit(offsets, timeout_ms=5_000)
    except Exception:
        return False
    return True


def _dump(connection: Connection) -> dict[str, str]:
    """A digest of every table that events change."""
    found = {}
    for name in TABLES:
        digest = sha256()
        with connection.cursor() as cursor:
            cursor.execute("SELECT column_name FROM information_schema.columns"
                           " WHERE table_name = %s AND column_name NOT IN ('settled', 'id')"
                           " ORDER BY 1", (name,))  # fmt: skip
            columns = ", ".join(column for (column,) in cursor.fetchall())
            query = f"SELECT {columns} FROM {name} ORDER BY {columns}"
            cursor.copy_expert(f"COPY ({query}) TO STDOUT", _Digesting(digest))
        found[name] = digest.hexdigest()
    return found


class _Digesting:
    """What COPY writes to."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: str | bytes) -> int:
        self._digest.update(data if isinstance(data, bytes) else data.encode())
        return len(data)
