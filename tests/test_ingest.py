"""Events that the database refuses: found, kept with their bytes, their neighbours stored once."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from tests.running import Server, Trip, connect, envelope, fresh_database, stamp, wait_until
from tests.test_database import raised
from tests.test_store_ingest import accepted, track_of
from tracking.database import create_engine
from tracking.metrics import Metrics
from tracking.rooms import Rooms
from tracking.settings import DatabaseSettings, Settings
from tracking.store import partitions
from tracking.store.ingest import Stored, store_batch
from workers.batches import Batch
from workers.ingest import Ingest
from workers.letterbox import Letter, letters
from workers.relay import LocalRelay
from workers.sends import send_each

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


def produce(own: dict[str, str], trip: Trip) -> list[bytes]:
    """Everything lies ready before the server starts; the values that are poison."""
    admin = KafkaAdminClient(bootstrap_servers=own["KAFKA_BROKERS"])
    prefix = own["KAFKA_TOPIC_PREFIX"]
    admin.create_topics([NewTopic(f"{prefix}.{name}.events", 1, 1) for name in NAMES])
    admin.close()
    identity = {**trip.identity(), "occurred_at": stamp(trip.start)}
    joke = event("booking.accepted", **{**identity, "booking_id": str(uuid4()),
                                        "booking_number": "BK-joke"})  # fmt: skip
    updates = [
        event("runner.location_update", **trip.update(n, latitude=-85.0 if n in POISONED else -6.2))
        for n in range(NUMBER)
    ]
    producer = KafkaProducer(bootstrap_servers=own["KAFKA_BROKERS"])
    for value in (event("booking.accepted", **identity), joke):
        producer.send(f"{prefix}.booking.events", value=value, headers=[("trace", b"1")])
    for number, value in enumerate(updates):
        producer.send(f"{prefix}.runner.events", value=value, key=b"%d" % number)
    producer.flush(timeout=30)
    producer.close(timeout=5)
    return [joke, *(updates[number] for number in POISONED)]


NAMES = ("booking", "runner")


def test_poison_is_found_by_halving_and_its_neighbours_are_stored_once(
    own: dict[str, str], tmp_path: Path
) -> None:
    trip = Trip()
    poison = produce(own, trip)
    server = Server(own, tmp_path / "log").start()
    try:
        found: list[Letter] = wait_until(
            lambda: x if len(x := list(letters(Settings.from_environment(own)))) >= 5 else [],
            "five letters",
        )
        assert sorted(letter.value or b"" for letter in found) == sorted(poison)
        (joke,) = [letter for letter in found if letter.value == poison[0]]
        assert joke.headers[0] == ("trace", b"1")
        assert "no_jokes" in joke.reason
        reasons = [letter.reason for letter in found if letter is not joke]
        assert all("no_antarctica" in reason for reason in reasons)
        assert sorted(int(letter.key or b"") for letter in found if letter is not joke) == [
            *POISONED
        ]

        def outcomes(type_: str) -> dict[str, float]:
            names = ("applied", "duplicate", "parked", "refused", "dead", "ignored", "skipped")
            metric = "tracking_events_total"
            counts = {n: server.metric(metric, type=type_, outcome=n) for n in names}
            return {name: count for name, count in counts.items() if count}

        wait_until(lambda: sum(outcomes("runner.location_update").values()) == NUMBER, "counted")
        stored = NUMBER - len(POISONED)
        assert outcomes("booking.accepted") == {"applied": 1, "dead": 1}
        assert outcomes("runner.location_update") == {"applied": stored, "dead": len(POISONED)}
        with closing(connect(own)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT array_agg(seq ORDER BY seq) FROM waypoints")
            assert cursor.fetchone() == ([*range(1, stored + 1)],)
        log = server.log.read_text()
        assert log.count("cannot be stored") == len(poison)
        assert server.stop() == 0
    finally:
        server.stop()
    assert "Traceback" not in log
    assert "-85" not in log


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

    monkeypatch.setattr("workers.ingest.store_batch", store)
    batch = Batch(events=[accepted(trip)], records=[object()], size=1)

    async def run() -> None:
        rooms, metrics = Rooms(), Metrics()
        with ThreadPoolExecutor(1) as executor:
            relay, died = LocalRelay(rooms, metrics, send_each), list[BaseException]()
            ingest = Ingest(engine, executor, relay, metrics, 100, died.append)
            ingest.offer(batch)
            assert await ingest.close(10)
            assert died == []

    asyncio.run(run())
    assert batch.dead == []
    assert track_of(engine, trip).status == "active"
