"""workers.outgoing: events to Kafka in order, at least once with the same ids, fair, thinned."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import NewTopic

from tests.running import Platform, Server, Trip, connect, fresh_database, wait_until
from tests.test_store_ingest import accepted, delivered, update
from tracking.metrics import Metrics
from tracking.settings import DatabaseSettings, Settings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.statements import transaction
from workers.outgoing import Outgoing

LARGE = 60_000


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database and topics that no other server drains."""
    with fresh_database(environ) as own:
        yield {
            **own,
            "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
            "KAFKA_GROUP_ID": f"test-{uuid4().hex[:12]}",
            "SERVICE_PORT": "0",
            "SERVICE_ADDRESS": "127.0.0.1",
        }


@pytest.fixture
def engine(own: dict[str, str]) -> Iterator[sa.Engine]:
    engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=5)
    yield engine
    engine.dispose()


@contextmanager
def draining(own: dict[str, str], engine: sa.Engine) -> Iterator[tuple[Outgoing, Metrics]]:
    """The thread as the server runs it."""
    died: list[BaseException] = []
    metrics = Metrics()
    outgoing = Outgoing(Settings.from_environment(own), engine, metrics, died.append)
    outgoing.start()
    try:
        yield outgoing, metrics
    finally:
        outgoing.stop()
        assert outgoing.wait(10)
        assert died == []


class Reader:
    """Gathers what comes out, in the order of each booking."""

    def __init__(self, own: dict[str, str]) -> None:
        topic = f"{own['KAFKA_TOPIC_PREFIX']}.tracking.events"
        self._consumer = KafkaConsumer(
            topic, bootstrap_servers=own["KAFKA_BROKERS"], auto_offset_reset="earliest",
            group_id=None, metadata_max_age_ms=300,
        )  # fmt: skip
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self._consumer.close()

    def poll(self) -> None:
        for records in self._consumer.poll(timeout_ms=100, max_records=50_000).values():
            self.events += [json.loads(record.value) for record in records]

    def of(self, trip: Trip) -> list[dict[str, Any]]:
        return [e for e in self.events if e["data"]["booking_id"] == str(trip.booking_id)]

    def wait_for(self, trip: Trip, type_: str, number: int = 1) -> list[dict[str, Any]]:
        def there() -> bool:
            self.poll()
            return Counter(e["type"] for e in self.of(trip))[f"tracking.{type_}"] >= number

        wait_until(there, f"{number} tracking.{type_}")
        return self.of(trip)


@pytest.fixture
def reader(own: dict[str, str]) -> Iterator[Reader]:
    reader = Reader(own)
    yield reader
    reader.close()


def words(events: list[dict[str, Any]]) -> list[object]:
    """A position as its seq, any other event as its type."""
    return [
        e["data"]["seq"] if e["type"] == "tracking.updated" else e["type"].removeprefix("tracking.")
        for e in events
    ]


def test_events_of_a_trip_go_out_in_order(
    own: dict[str, str], engine: sa.Engine, reader: Reader
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), *(update(trip, n) for n in range(3))])
    with draining(own, engine):
        reader.wait_for(trip, "updated", 3)
        store_batch(engine, [update(trip, 4), delivered(trip, 60)])
        reader.wait_for(trip, "completed")
        store_batch(engine, [update(trip, 3.5, latitude=-6.2003)])
        events = reader.wait_for(trip, "corrected")
    assert words(events) == ["started", 1, 2, 3, 4, "completed", 5, "corrected"]
    assert events[-1]["data"]["replaces"] == events[-3]["id"]
    assert len({event["id"] for event in events}) == len(events)


def test_a_position_that_left_the_route_does_not_go_out(
    own: dict[str, str], engine: sa.Engine, reader: Reader
) -> None:
    """Its delivery was told of late: nobody may be told where the runner went afterwards."""
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0), update(trip, 9), update(trip, 300)])
    store_batch(engine, [delivered(trip, 60)])
    with draining(own, engine):
        events = reader.wait_for(trip, "completed")
        wait_until(lambda: all_out(engine), "nothing waits")
    assert words(events) == ["started", 1, 2, "completed"]


def test_a_large_track_does_not_delay_the_others(
    own: dict[str, str], engine: sa.Engine, reader: Reader
) -> None:
    large, small = Trip(), Trip()
    store_batch(engine, [accepted(large)])
    for first in range(0, LARGE, 15_000):
        batch = range(first, first + 15_000)
        store_batch(engine, [update(large, number / 50) for number in batch])
    with draining(own, engine):
        reader.wait_for(large, "updated")
        store_batch(engine, [accepted(small), update(small, 1), delivered(small, 60)])
        assert words(reader.wait_for(small, "completed")) == ["started", 1, "completed"]
        behind = LARGE - len(reader.of(large))
        assert behind > LARGE / 4
        sent = reader.wait_for(large, "updated", LARGE)
    assert words(sent) == ["started", *range(1, LARGE + 1)]


def test_a_drainer_killed_before_it_notes_what_it_sent_sends_the_same_ids_again(
    own: dict[str, str], engine: sa.Engine, reader: Reader, tmp_path: Path
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0), update(trip, 1)])
    store_batch(engine, [update(trip, 2), delivered(trip, 60)])
    server = Server(own, tmp_path / "log")
    with closing(connect(own)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM published_watermarks FOR UPDATE")
        server.start()
        reader.wait_for(trip, "updated", 3)
        server.stop(signal.SIGKILL)
    first = reader.of(trip)
    try:
        server.start()
        events = reader.wait_for(trip, "summarized")
    finally:
        server.stop()
    again = events[len(first) :]
    assert words(again) == [1, 2, 3, "completed", "summarized"]
    assert {e["id"]: e for e in again[:3]} == {e["id"]: e for e in first if e["data"].get("seq")}


def test_a_drainer_killed_before_it_deletes_an_event_sends_the_same_again(
    own: dict[str, str], engine: sa.Engine, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), delivered(trip, 60)])

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("tracking.store.outbox.events.delete_events", kill)
    died: list[BaseException] = []
    outgoing = Outgoing(Settings.from_environment(own), engine, Metrics(), died.append)
    outgoing.start()
    first = reader.wait_for(trip, "completed")
    assert outgoing.wait(10)
    assert isinstance(died[0], Killed)
    monkeypatch.undo()
    with draining(own, engine):
        events = reader.wait_for(trip, "completed", 2)
    assert events[: len(first)] == events[len(first) :]


def test_one_process_drains_and_another_takes_over(
    own: dict[str, str], engine: sa.Engine, reader: Reader
) -> None:
    first, second = Trip(), Trip()
    with draining(own, engine):
        store_batch(engine, [accepted(first)])
        reader.wait_for(first, "started")
        with draining(own, engine) as (_, metrics):
            store_batch(engine, [accepted(second)])
            reader.wait_for(second, "started")
            sent = metrics.published.labels("tracking.started")
            assert sent._value.get() == 0
    with draining(own, engine):
        third = Trip()
        store_batch(engine, [accepted(third)])
        reader.wait_for(third, "started")


def test_positions_are_thinned_to_an_interval_the_first_and_the_last_stay(
    own: dict[str, str], engine: sa.Engine, reader: Reader
) -> None:
    settings = {**own, "TRACKING_UPDATED_INTERVAL": "60"}
    trip = Trip()
    store_batch(engine, [accepted(trip), *(update(trip, second) for second in range(0, 100, 10))])
    with draining(settings, engine):
        reader.wait_for(trip, "updated", 2)
        wait_until(lambda: all_out(engine), "all looked at")
        store_batch(engine, [update(trip, 95), update(trip, 110), update(trip, 119)])
        wait_until(lambda: all_out(engine), "all looked at")
    # Another process goes on where this one was, from what is stored.
    with draining(settings, engine):
        store_batch(engine, [update(trip, 121), update(trip, 133), update(trip, 129)])
        wait_until(lambda: all_out(engine), "all looked at")
        store_batch(engine, [delivered(trip, 200)])
        reader.wait_for(trip, "completed")
        store_batch(engine, [update(trip, 131)])
        events = reader.wait_for(trip, "corrected")
    recorded = [e["data"]["occurred_at"] for e in events if e["type"] == "tracking.updated"]
    assert recorded == [_text(trip.at(s)) for s in (0, 60, 121, 133)]
    assert [e["type"] for e in events][-3:] == [
        "tracking.updated", "tracking.completed", "tracking.corrected",
    ]  # fmt: skip


def _text(time: Any) -> str:
    return str(time.isoformat().replace("+00:00", "Z"))


def all_out(engine: sa.Engine) -> bool:
    with transaction(engine) as cursor:
        cursor.execute("SELECT FROM published_watermarks WHERE unsent_since IS NOT NULL")
        return cursor.fetchone() is None


def test_without_positions_the_rest_goes_out(
    own: dict[str, str], engine: sa.Engine, reader: Reader
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0)])
    with draining({**own, "TRACKING_UPDATED": "off"}, engine):
        reader.wait_for(trip, "started")
        store_batch(engine, [update(trip, 1), delivered(trip, 60)])
        reader.wait_for(trip, "completed")
        store_batch(engine, [update(trip, 0.5, latitude=-6.2003)])
        events = reader.wait_for(trip, "corrected")
        wait_until(lambda: all_out(engine), "no track is looked at")
    assert words(events) == ["started", "completed", "corrected"]


def test_readiness_tells_how_long_events_wait_and_stays_ready(
    own: dict[str, str], engine: sa.Engine, tmp_path: Path
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=own["KAFKA_BROKERS"])
    # As good as away: every event is larger.
    topic = NewTopic(
        f"{own['KAFKA_TOPIC_PREFIX']}.tracking.events", 1, 1,
        topic_configs={"max.message.bytes": "100"},
    )  # fmt: skip
    admin.create_topics([topic])
    server = Server(own, tmp_path / "log").start()
    platform = Platform(own["KAFKA_BROKERS"], own["KAFKA_TOPIC_PREFIX"])
    trip = Trip()

    def outgoing() -> str:
        return str(server.wait_ready().get("/readiness")[1]["checks"]["outgoing"])

    try:
        server.wait_ready()
        platform.accept(trip)
        platform.update(trip, 0)
        wait_until(lambda: "outgoing events wait for Kafka" in server.log.read_text(), "said")
        stored = "tracking_waypoints_stored_total"
        wait_until(lambda: server.metric(stored) == 1, "stored all the same")
        wait_until(lambda: outgoing().startswith("ok, the oldest event waits "), "shown")
        with transaction(engine) as cursor:
            cursor.execute("UPDATE published_watermarks SET unsent_since = now() - interval '75 s'")
            assert cursor.rowcount == 1
        wait_until(lambda: outgoing().endswith(" s, look at tracking.events"), "old")
        assert server.metric("tracking_outbox_oldest_age_seconds") >= 75
        admin.delete_topics([topic.name])
        wait_until(lambda: outgoing() == "ok", "flows again")
        assert "outgoing events flow again" in server.log.read_text()
    finally:
        server.stop()
        platform.close()
        admin.close()
    assert "Traceback" not in server.log.read_text()
