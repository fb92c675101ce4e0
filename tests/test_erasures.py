"""workers.erasures: erasures reach the topic that keeps them, and other services."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.running import Trip, fresh_database, wait_until
from tests.test_erasure import ended
from tests.test_outgoing import Reader, draining
from tracking.domain.erasure import runner_digest
from tracking.settings import DatabaseSettings, KafkaSettings
from tracking.store.engine import create_engine
from tracking.store.erasing import runners
from tracking.store.erasing.bookings import erase_booking
from tracking.store.statements import transaction
from workers.erasures import TOPIC, ErasedBooking, ErasedRunner, Erasures, kept_erasures


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database and topics that no other server drains."""
    with fresh_database(environ) as own:
        prefix = f"test-{uuid4().hex[:12]}"
        yield {**own, "KAFKA_TOPIC_PREFIX": prefix, "KAFKA_GROUP_ID": prefix, "SERVICE_PORT": "0"}


def waiting(engine: sa.Engine) -> int:
    with transaction(engine) as cursor:
        cursor.execute("SELECT count(*) FROM outbox")
        (count,) = cursor.fetchone() or (0,)
        return int(count)


def cleanup_policy(own: dict[str, str]) -> str:
    admin = KafkaAdminClient(bootstrap_servers=own["KAFKA_BROKERS"])
    topic = KafkaSettings.from_environment(own).topic(TOPIC)
    try:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        admin.close()
    return str(found)


def test_an_erasure_goes_to_other_services_and_to_the_compacted_topic(
    own: dict[str, str],
) -> None:
    engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
    settings = KafkaSettings.from_environment(own)
    assert kept_erasures(settings) == []
    trip, runners_trip = ended(engine), ended(engine)
    before = datetime.now(UTC)
    done = erase_booking(engine, trip.booking_id)
    runners.begin(engine, runners_trip.runner_id, before)
    with draining(own, engine):
        wait_until(lambda: not waiting(engine), "all is out")
    (booking, runner) = kept_erasures(settings)
    assert isinstance(booking, ErasedBooking)
    assert (booking.booking_id, booking.erased_at) == (trip.booking_id, done.erased_at)
    assert [span[0] for span in booking.spans] == [runner_digest(trip.runner_id).hex()]
    assert runner == ErasedRunner(runner_digest(runners_trip.runner_id).hex(), before)
    assert "compact" in cleanup_policy(own)
    reader = Reader(own)

    def found() -> list[dict[str, dict[str, str]]]:
        reader.poll()
        return erased_events(reader, trip)

    (event,) = wait_until(found, "the event")
    assert set(event["data"]) == {"booking_id", "erased_at", "occurred_at"}
    assert "runner_erased" not in json.dumps(reader.events)
    reader.close()
    engine.dispose()


def erased_events(reader: Reader, trip: Trip) -> list[dict[str, dict[str, str]]]:
    return [
        event
        for event in reader.events
        if event["type"] == "tracking.erased"
        and event["data"]["booking_id"] == str(trip.booking_id)
    ]


def test_a_letter_of_somebody_who_was_erased_is_recognised_even_if_it_is_damaged() -> None:
    now = datetime.now(UTC)
    booking, runner, other = Trip(), Trip(), Trip()
    erasures = Erasures(
        [
            ErasedBooking(booking.booking_id, now, []),
            ErasedRunner(runner_digest(runner.runner_id).hex(), now),
        ]
    )
    before, after = now - timedelta(hours=1), now + timedelta(hours=1)
    assert erasures.concern(f'{{"booking_id":"{booking.booking_id}'.encode(), after)
    assert erasures.concern(str(booking.booking_id).upper().encode(), after)
    assert erasures.concern(f"\xff {runner.runner_id},".encode("latin-1"), before)
    assert not erasures.concern(str(runner.runner_id).encode(), after)  # he works on
    assert not erasures.concern(f"{other.booking_id} {other.runner_id}".encode(), before)
    assert not erasures.concern(b"", before)
