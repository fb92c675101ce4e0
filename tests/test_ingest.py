"""Events that the database refuses: found, kept with their bytes, their neighbours stored once."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from tests.running import Server, Trip, connect, envelope, fresh_database, stamp, wait_until
from tests.test_engine import raised
from tests.test_store_ingest import accepted, track_of
from tracking.live.broadcast import Broadcast
from tracking.live.rooms import Rooms
from tracking.live.sender import send_each
from tracking.metrics import Metrics
from tracking.settings import DatabaseSettings, Settings
from tracking.store import partitions
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import Stored, store_batch
from workers.batch_store import BatchStore
from workers.breaker import Breaker
from workers.ingest import Ingest
from workers.kafka.batches import Batch
from workers.kafka.dead_letter_topic import KeptDeadLetter, kept_dead_letters

NUMBER, POISONED = 60, (0, 17, 18, 59)


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """No event that gets through our checks is refused by our tables: this one's are stricter."""
    with fresh_database(environ) as own:
        # A partition that is made later would lack the constraint, and not be let in.
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
        for at in (datetime.now(UTC) - timedelta(days=1), datetime.now(UTC)):
            partitions.ensure_ahead(engine, at)
        engine.dispose()
        with closing(connect(own)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE waypoints ADD CONSTRAINT no_antarctica CHECK (ST_Y(position) > -80);"
                " ALTER TABLE booking_facts ADD CONSTRAINT no_jokes"
                " CHECK (booking_number <> 'BK-joke')"
            )
            connection.commit()
        yield {
            **own,
            "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
            "KAFKA_GROUP_ID": f"test-{uuid4().hex[:12]}",
            "SERVICE_PORT": "0",
            "SERVICE_ADDRESS": "127.0.0.1",
        }


def event(type_: str, **data: Any) -> bytes:
    return json.dumps(envelope(type_, data)).encode()


def produce(own: dict[str, str], topic: str, values: list[bytes]) -> None:
    """Acknowledged when it returns; the keys are the values' numbers."""
    producer = KafkaProducer(bootstrap_servers=own["KAFKA_BROKERS"])
    for number, value in enumerate(values):
        producer.send(
            f"{own['KAFKA_TOPIC_PREFIX']}.{topic}", value=value, key=b"%d" % number,
            headers=[("trace", b"1")],
        )  # fmt: skip
    producer.flush(timeout=30)
    producer.close(timeout=5)


def make_topics(own: dict[str, str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=own["KAFKA_BROKERS"])
    prefix = own["KAFKA_TOPIC_PREFIX"]
    admin.create_topics([NewTopic(f"{prefix}.{name}.events", 1, 1) for name in NAMES])
    admin.close()


def acceptance(trip: Trip, **changes: str) -> bytes:
    return event("booking.accepted", **{**trip.identity(), "occurred_at": stamp(trip.start),
                                        **changes})  # fmt: skip


def updates_of(trip: Trip) -> list[bytes]:
    """Some of them in Antarctica."""
    return [
        event("runner.location_update", **trip.update(n, latitude=-85.0 if n in POISONED else -6.2))
        for n in range(NUMBER)
    ]


def outcomes(server: Server, type_: str) -> dict[str, float]:
    names = ("applied", "duplicate", "parked", "refused", "dead", "ignored", "skipped")
    counts = {n: server.metric("tracking_events_total", type=type_, outcome=n) for n in names}
    return {name: count for name, count in counts.items() if count}


def seqs(own: dict[str, str]) -> list[int]:
    with closing(connect(own)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(array_agg(seq ORDER BY seq), '{}') FROM waypoints")
        (found,) = cursor.fetchone() or ([],)
    return list(found)


NAMES = ("booking", "runner")


def test_poison_is_found_by_halving_and_its_neighbours_are_stored_once(
    own: dict[str, str], tmp_path: Path
) -> None:
    trip = Trip()
    joke = acceptance(trip, booking_id=str(uuid4()), booking_number="BK-joke")
    updates = updates_of(trip)
    make_topics(own)
    produce(own, "booking.events", [acceptance(trip), joke])
    server = Server(own, tmp_path / "log").start()
    try:
        wait_until(lambda: len(outcomes(server, "booking.accepted")) == 2, "trip and joke")
        assert outcomes(server, "booking.accepted") == {"applied": 1, "dead": 1}
        assert server.stop() == 0
        produce(own, "runner.events", updates)  # one batch, whole
        server.start()
        found: list[KeptDeadLetter] = wait_until(
            lambda: (
                x if len(x := list(kept_dead_letters(Settings.from_environment(own)))) >= 5 else []
            ),
            "five letters",
        )
        poison = [joke, *(updates[number] for number in POISONED)]
        assert sorted(letter.value or b"" for letter in found) == sorted(poison)
        (told,) = [letter for letter in found if letter.value == joke]
        assert told.headers[0] == ("trace", b"1")
        assert "no_jokes" in told.reason
        others = [letter for letter in found if letter is not told]
        assert all("no_antarctica" in letter.reason for letter in others)
        assert sorted(int(letter.key or b"") for letter in others) == [*POISONED]
        stored = NUMBER - len(POISONED)
        wait_until(
            lambda: (
                outcomes(server, "runner.location_update")
                == {"applied": stored, "dead": len(POISONED)}
            ),
            "counted",
        )
        assert seqs(own) == [*range(1, stored + 1)]
        log = server.log.read_text()
        assert log.count("cannot be stored") == len(poison)
        assert server.stop() == 0
    finally:
        server.stop()
    assert "Traceback" not in log
    assert "-85" not in log


def test_poison_among_parked_updates_costs_neither_the_acceptance_nor_the_others(
    own: dict[str, str], tmp_path: Path
) -> None:
    trip = Trip()
    make_topics(own)
    produce(own, "runner.events", updates_of(trip))
    server = Server(own, tmp_path / "log").start()
    try:
        parked = {"parked": NUMBER}
        wait_until(lambda: outcomes(server, "runner.location_update") == parked, "parked")
        produce(own, "booking.events", [acceptance(trip)])
        stored = [*range(1, NUMBER - len(POISONED) + 1)]
        wait_until(lambda: seqs(own) == stored, "the others are adopted")
        assert outcomes(server, "booking.accepted") == {"applied": 1}
        refused = len(POISONED)
        wait_until(
            lambda: server.metric("tracking_parked_updates_refused_total") == refused, "refused"
        )
        assert server.stop() == 0
    finally:
        server.stop()
    assert server.log.read_text().count("cannot be stored, refused") == len(POISONED)


def test_a_single_event_that_was_refused_is_tried_once_more(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two processes make the same partition at once, which nothing provokes on demand."""
    trip = Trip()
    refusals = [raised(engine, "23505")]

    def store(*arguments: Any) -> Stored:
        if refusals:
            raise refusals.pop()
        return store_batch(*arguments)

    monkeypatch.setattr("workers.batch_store.store_batch", store)
    batch = Batch(events=[accepted(trip)], records=[object()], size=1)

    assert stored_by_ingest(engine, batch) == []
    assert batch.poison == []
    assert track_of(engine, trip).status == "active"


def test_a_bug_that_one_event_provokes_costs_that_event_only(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the dead letters until the bug is mended; a crash would only bring it again."""
    trips = [Trip() for _ in range(5)]
    events = [accepted(trip) for trip in trips]

    def store(engine: sa.Engine, events: list[Any], *more: Any) -> Stored:
        if any(event.booking_id == trips[3].booking_id for event in events):
            raise KeyError("our bug")
        return store_batch(engine, events, *more)

    monkeypatch.setattr("workers.batch_store.store_batch", store)
    records = [SimpleNamespace(topic="t", partition=0, offset=n, value=b"%d" % n) for n in range(5)]
    batch = Batch(events=list(events), records=list(records), size=5)
    assert stored_by_ingest(engine, batch) == []
    assert [letter.record.offset for letter in batch.poison] == [3]
    for trip in (*trips[:3], trips[4]):
        assert track_of(engine, trip).status == "active"


def test_a_bug_that_every_event_provokes_stops_the_intake_and_loses_nothing(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bad deploy: nothing is stored, nothing dead, no offset committed."""

    def store(*_: Any) -> Stored:
        raise KeyError("our bug")

    monkeypatch.setattr("workers.batch_store.store_batch", store)
    records = [SimpleNamespace(topic="t", partition=0, offset=n, value=b"%d" % n) for n in range(9)]
    batch = Batch(events=[accepted(Trip()) for _ in range(9)], records=list(records), size=9)
    breaker, told = Breaker(Metrics()), list[Batch]()
    assert stored_by_ingest(engine, batch, breaker, told.append) == []
    assert "booking.accepted in a row failed at store with KeyError" in (breaker.reason or "")
    assert told == []  # so nothing was sent away, nor committed


def test_a_publish_that_fails_is_heard_at_once_and_its_offsets_are_committed(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next batch, which a quiet night may not bring."""

    async def publish(*_: Any) -> None:
        raise RuntimeError("a room is broken")

    monkeypatch.setattr(Broadcast, "publish", publish)
    batch = Batch(events=[accepted(Trip())], records=[object()], size=1)
    told = list[Batch]()
    assert [str(e) for e in stored_by_ingest(engine, batch, None, told.append)] == [
        "a room is broken"
    ]
    assert told == [batch]


def test_viewers_are_sent_to_before_anybody_else_is_told(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    publish = Broadcast.publish

    async def published(self: Broadcast, bookings: Any) -> None:
        order.append("viewers")
        await publish(self, bookings)

    monkeypatch.setattr(Broadcast, "publish", published)
    batch = Batch(events=[accepted(Trip())])
    assert stored_by_ingest(engine, batch, told=lambda _: order.append("others")) == []
    assert order == ["viewers", "others"]


def stored_by_ingest(
    engine: sa.Engine,
    batch: Batch,
    breaker: Breaker | None = None,
    told: Callable[[Batch], None] = lambda _: None,
) -> list[BaseException]:
    """Through ingest's own loop; what it died of."""

    async def run() -> list[BaseException]:
        with ThreadPoolExecutor(1) as executor:
            metrics, died = Metrics(), list[BaseException]()
            broadcast = Broadcast(Rooms(), metrics, send_each)
            store = BatchStore(engine, executor, metrics, breaker or Breaker(metrics))
            ingest = Ingest(store, broadcast, metrics, 100, died.append)
            ingest.stored.append(told)
            ingest.offer(batch)
            assert await ingest.close(10)
            return died

    return asyncio.run(run())
