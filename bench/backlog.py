"""A backlog that lies ready in Kafka becomes rows: how fast, at which cost, again, with poison."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from bench import floors
from bench.cpu import cpu_seconds, stages
from bench.digest import digests
from bench.producing import PARTITIONS, PRODUCERS, make_topics, produce, values
from bench.report import REPLACED_RATE, table
from bench.talk import Talk
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
UPDATES: Final = 200_000
# As this was measured before the platform's keys were known.
OLD_PARTITIONS: Final = 3
# Positions that nobody could have reached, and such that come some ten later.
JUMPS: Final = 0.005
LATE: Final = 0.05
DEADLINE_S: Final = 900.0
# Between two looks at the metrics, each of which takes the loop ten milliseconds; Prometheus looks
# every 15 s. The closer the end, the more often.
LEAST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 3.0


class Drained(NamedTuple):
    """One backlog, from the first outcome to the last."""

    rate: float  # records a second
    frames: float  # a second, to all viewers
    cpu_us: dict[str, float]  # for each record, by stage


def run(environ: dict[str, str]) -> str:
    """The tables; some five minutes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        off, again, poll, copied = _stored_and_replayed(environ, folder)
        on, poll_on = _once(environ, folder, TRACKING_UPDATED="on")
        poisoned, poll_poisoned = _once(environ, folder, poison=0.1)
        unkeyed, poll_unkeyed = _once(environ, folder, keyed=False)
        jumping, poll_jumping = _once(environ, folder, jumps=JUMPS, late=LATE)
    runs = {"off": off, "again": again, "on": on, "10 % malformed": poisoned, "no keys": unkeyed,
            "jumps, late": jumping}  # fmt: skip
    rates = [
        _row("tracking.updated off", off, poll),
        _row("the same again: nothing changes", again, poll),
        _row("tracking.updated on", on, poll_on),
        _row("off, 10 % of them malformed", poisoned, poll_poisoned),
        _row("off, no keys, one producer, three partitions", unkeyed, poll_unkeyed),
        _row(f"off, {JUMPS:.1%} elsewhere, {LATE:.0%} late", jumping, poll_jumping),
    ]
    head = ["backlog", "records/s", "bare poll, records/s", "of bare poll", "frames/s",
            f"times {REPLACED_RATE:.0f}/s"]  # fmt: skip
    return "\n\n".join(
        [
            f"{UPDATES:,} updates of {TRIPS:,} trips, {WATCHED} of them watched; {PARTITIONS}"
            f" partitions, {PRODUCERS} producers, the key is the event's id. psql copy"
            f" {copied:,.0f} rows/s.",
            table(head, rates),
            "CPU for each record by stage, µs:",
            stages({name: each.cpu_us for name, each in runs.items()}),
            f"Again / first: {again.rate / off.rate:.2f}. Malformed / clean:"
            f" {poisoned.rate / off.rate:.2f}.",
        ]
    )


def _row(name: str, drained: Drained, poll: float) -> list[str]:
    return [
        name, f"{drained.rate:,.0f}", f"{poll:,.0f}", f"{drained.rate / poll:.3f}",
        f"{drained.frames:,.0f}", f"{drained.rate / REPLACED_RATE:,.0f}",
    ]  # fmt: skip


def _stored_and_replayed(
    environ: dict[str, str], folder: Path
) -> tuple[Drained, Drained, float, float]:
    """First and second time, the bare poll, psql; the second time changes no row."""
    with _backlog(environ, folder) as (server, fleet, topic):
        poll = floors.bare_poll(environ["KAFKA_BROKERS"], topic, UPDATES)
        with closing(connect(server.environ)) as connection:
            connection.autocommit = True
            first = _drain(server, fleet, UPDATES)
            before = digests(connection)
            server.stop()
            _rewind(server, topic)
            again = _drain(server, fleet, UPDATES)
            assert digests(connection) == before, "a replay changed rows"
            server.stop()
            copied = floors.psql_copy(server.environ, connection, folder)
    return first, again, poll, copied


def _once(
    environ: dict[str, str], folder: Path, poison: float = 0.0, *, keyed: bool = True,
    jumps: float = 0.0, late: float = 0.0, **settings: str,
) -> tuple[Drained, float]:  # fmt: skip
    """A backlog of its own, of which a share may be malformed, and its bare poll."""
    with _backlog(environ, folder, poison, keyed=keyed, jumps=jumps, late=late, **settings) as (
        server,
        fleet,
        topic,
    ):
        poll = floors.bare_poll(environ["KAFKA_BROKERS"], topic, UPDATES)
        drained = _drain(server, fleet, UPDATES)
        dead = server.metric("tracking_events_total", outcome="dead")
        assert dead == round(UPDATES * poison), f"{dead} dead"
        return drained, poll


@contextmanager
def _backlog(
    environ: dict[str, str], folder: Path, poison: float = 0.0, *, keyed: bool = True,
    jumps: float = 0.0, late: float = 0.0, **settings: str,
) -> Iterator[tuple[Server, list[Trip], str]]:  # fmt: skip
    """A stopped server whose updates lie ready, its trips, and the topic's name."""
    print(f"bench: backlog, {settings}, malformed {poison:.0%}, keyed {keyed}", file=sys.stderr)
    fleet = [Trip(datetime.now(UTC) - timedelta(days=1)) for _ in range(TRIPS)]
    brokers, prefix = environ["KAFKA_BROKERS"], f"bench-{uuid4().hex[:12]}"
    make_topics(brokers, prefix, PARTITIONS if keyed else OLD_PARTITIONS)
    own = {"KAFKA_TOPIC_PREFIX": prefix, "MAX_VIEWERS_PER_USER": "0", "TRACKING_UPDATED": "off"}
    with (
        fresh_database(environ) as database,
        running_server(database, folder / "log", **{**own, **settings}) as server,
    ):
        platform = Platform(brokers, prefix)
        for trip in fleet:
            platform.accept(trip)
        wait_until(lambda: _outcomes(server) >= TRIPS, "trips accepted")
        platform.close()
        server.stop()
        topic = f"{prefix}.runner.events"
        load = values(fleet, UPDATES, poison, jumps=jumps, late=late)
        produce(brokers, topic, load, keyed=keyed)
        yield server, fleet, topic


def _drain(server: Server, fleet: list[Trip], count: int) -> Drained:
    """Start the server and wait until every record has its outcome."""
    server.start()
    token = server.token(fleet[0].owner_id, "admin")
    targets = [f"/ws/tracking/{trip.booking_id}?token={token}" for trip in fleet[:WATCHED]]
    with Talk([sys.executable, "-m", "bench.viewers"]) as viewers:
        viewers.ask(port=server.port, targets=targets, every=UPDATES, stalled=0, first=False)
        deadline = time.monotonic() + DEADLINE_S
        while not (begun := _outcomes(server)):
            time.sleep(LEAST_WAIT_S)
        started, cpu_before = time.perf_counter(), cpu_seconds(server)
        viewers.ask(reset=True)
        done, elapsed = begun, LEAST_WAIT_S
        while done < count:
            assert time.monotonic() < deadline, f"{done} of {count} after {DEADLINE_S} s"
            left_s = (count - done) * elapsed / (done - begun + 1)
            time.sleep(min(max(left_s / 2, LEAST_WAIT_S), LONGEST_WAIT_S))
            done, elapsed = _outcomes(server), time.perf_counter() - started
        cpu, frames = cpu_seconds(server), viewers.ask(report=True)["frames"]
    records = done - begun
    cost = {name: (cpu[name] - cpu_before.get(name, 0.0)) / records * 1e6 for name in cpu}
    return Drained(records / elapsed, frames / elapsed, cost)


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
