"""workers.erasures: erasures reach the topic that keeps them, and other services."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError

from tests.programs import run_program
from tests.running import Trip, fresh_database, wait_until
from tests.test_erasure import ended
from tests.test_outgoing import Reader, draining
from tracking.domain.erasure import runner_digest
from tracking.settings import DatabaseSettings, KafkaSettings
from tracking.store.engine import create_engine
from tracking.store.erasing import runners
from tracking.store.erasing.bookings import erase_booking
from tracking.store.statements import transaction
from workers import erasures
from workers.erasures import TOPIC, ErasedBooking, ErasedRunner, Erasure, Erasures, kept_erasures
from workers.kafka.whole_topic import NoTopic


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database and topics that no other server drains."""
    with fresh_database(environ) as own:
        prefix = f"test-{uuid4().hex[:12]}"
        yield {**own, "KAFKA_TOPIC_PREFIX": prefix, "KAFKA_GROUP_ID": prefix, "SERVICE_PORT": "0"}


def erasures_in(settings: KafkaSettings) -> list[Erasure]:
    """None either where the topic is not there yet."""
    try:
        return kept_erasures(settings)
    except NoTopic:
        return []


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
    assert erasures_in(settings) == []
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


def make_topic(own: dict[str, str], policy: str) -> str:
    """As somebody makes it who does not know what it is for."""
    topic = KafkaSettings.from_environment(own).topic(TOPIC)
    admin = KafkaAdminClient(bootstrap_servers=own["KAFKA_BROKERS"])
    admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"cleanup.policy": policy})])
    admin.close()
    return str(topic)


def mend(own: dict[str, str], topic: str) -> None:
    """What we say that should be done."""
    admin = KafkaAdminClient(bootstrap_servers=own["KAFKA_BROKERS"])
    admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "compact"})]
    )
    admin.close()


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_topic_that_forgets_erasures_is_noticed_and_told_how_to_mend(
    own: dict[str, str], policy: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(erasures, "LOOK_S", 0.1)
    topic = make_topic(own, policy)
    engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
    advice = f"kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact"
    checked = run_program("server.py", "--check", environ=own)
    assert (checked.returncode, advice in checked.stdout) == (0, True), checked.stdout
    with draining(own, engine) as (outgoing, _):
        wait_until(lambda: advice in outgoing.remark, "noticed")
        mend(own, topic)
        wait_until(lambda: not outgoing.remark, "mended")
    assert [record.message.count(advice) for record in caplog.records].count(1) == 1
    checked = run_program("server.py", "--check", environ=own)
    assert (checked.returncode, "cleanup.policy" in checked.stdout) == (0, False)
    engine.dispose()


def test_the_topic_is_there_before_anybody_is_erased(own: dict[str, str]) -> None:
    engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
    settings = KafkaSettings.from_environment(own)
    with pytest.raises(NoTopic):
        kept_erasures(settings)

    def is_there() -> bool:
        with suppress(NoTopic):
            return kept_erasures(settings) == []
        return False

    with draining(own, engine) as (outgoing, _):
        wait_until(is_there, "made")
        assert outgoing.remark == ""
    engine.dispose()


def test_a_record_that_is_no_erasure_is_not_passed_over(own: dict[str, str]) -> None:
    topic = make_topic(own, "compact")
    producer = KafkaProducer(bootstrap_servers=own["KAFKA_BROKERS"])
    producer.send(topic, key=b"1", value=b'{"type":"planet"}')
    producer.close()
    with pytest.raises(KafkaError, match=rf"{topic}/0@0 is no erasure"):
        kept_erasures(KafkaSettings.from_environment(own))


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
    known = Erasures(
        [
            ErasedBooking(booking.booking_id, now, []),
            ErasedRunner(runner_digest(runner.runner_id).hex(), now),
        ]
    )
    before, after = now - timedelta(hours=1), now + timedelta(hours=1)
    assert known.concern(f'{{"booking_id":"{booking.booking_id}'.encode(), after)
    assert known.concern(str(booking.booking_id).upper().encode(), after)
    assert known.concern(f"\xff {runner.runner_id},".encode("latin-1"), before)
    assert not known.concern(str(runner.runner_id).encode(), after)  # he works on
    assert not known.concern(f"{other.booking_id} {other.runner_id}".encode(), before)
    assert not known.concern(b"", before)
