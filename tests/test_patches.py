"""workers.kafka.patches: a real Kafka, where kafka-python stalls or forgets without them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import kafka
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.coordinator.base import MemberState
from kafka.serializer import Deserializer

from tests.running import CHECKOUT, wait_until
from tracking.settings import Settings
from workers.kafka.clients import connection_options
from workers.kafka.coordinator import LEAST_WAIT_S
from workers.kafka.patches import VERSION, patch, resume_join

RECORDS = 300
POLL = 10
GOOD = 13  # no whole number of polls


@pytest.fixture
def topic(environ: dict[str, str]) -> str:
    """Of three partitions; the first two hold records."""
    name, brokers = f"test-{uuid4().hex[:12]}", environ["KAFKA_BROKERS"]
    admin = KafkaAdminClient(bootstrap_servers=brokers)
    admin.create_topics([NewTopic(name, 3, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=brokers)
    for number in range(2 * RECORDS):
        producer.send(name, value=b"x" * 300, partition=number % 2)
    producer.flush(timeout=60)
    producer.close(timeout=5)
    return name


@contextmanager
def patched_consumer(
    environ: dict[str, str], fetch_max_wait_ms: int, **options: Any
) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(
        bootstrap_servers=environ["KAFKA_BROKERS"], auto_offset_reset="earliest",
        fetch_max_wait_ms=fetch_max_wait_ms, max_partition_fetch_bytes=16 << 10, **options,
    )  # fmt: skip
    patch(consumer)
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False)


class Reading:
    """How much of each partition was polled, in polls that are smaller than a fetch."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self.consumer = consumer
        self.read: Counter[TopicPartition] = Counter()
        self.last: dict[TopicPartition, int] = {}  # of the newest poll, in its order

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def is_done() -> bool:
            polled = self.consumer.poll(timeout_ms=100, max_records=POLL)
            self.last = {place: len(records) for place, records in polled.items()}
            self.read.update(self.last)
            return condition()

        wait_until(is_done, what)


def test_a_rest_that_is_not_read_yet_delays_no_fetch(environ: dict[str, str], topic: str) -> None:
    """A fetch of quiet partitions only would take longer than the test's patience."""
    busy, quiet = TopicPartition(topic, 0), TopicPartition(topic, 2)
    with patched_consumer(environ, 25_000) as consumer:
        consumer.assign([busy, quiet])
        reading = Reading(consumer)
        reading.until(lambda: reading.read[busy] == RECORDS, "the whole backlog")


def test_a_partition_that_is_resumed_goes_on(environ: dict[str, str], topic: str) -> None:
    """Paused with a rest, while another is read to its end."""
    both = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    with patched_consumer(environ, 500) as consumer:
        consumer.assign(list(both))
        reading = Reading(consumer)
        reading.until(lambda: sum(reading.last.values()) == POLL, "a full poll")
        *_, paused = reading.last  # it ended within this one's records
        (other,) = both - {paused}
        before = reading.read[paused]
        consumer.pause(paused)
        reading.until(lambda: reading.read[other] == RECORDS, "the other one to its end")
        assert reading.read[paused] == before
        consumer.resume(paused)
        reading.until(lambda: reading.read[paused] == RECORDS, "the one that was paused, too")


def test_a_partition_that_is_paused_before_it_fails_fails_when_it_is_resumed(
    environ: dict[str, str], topic: str
) -> None:
    """Without the patch the last poll never returns."""
    place = TopicPartition(topic, 0)
    with patched_consumer(environ, 500, value_deserializer=Failing()) as consumer:
        consumer.assign([place])
        reading = Reading(consumer)
        reading.until(lambda: reading.read[place] == GOOD, "the records before the bad one")
        consumer.pause(place)
        for _ in range(3):
            assert consumer.poll(timeout_ms=100, max_records=POLL) == {}
        consumer.resume(place)
        with pytest.raises(ZeroDivisionError):
            reading.until(lambda: False, "the bad one")
        assert reading.read[place] == GOOD


def test_an_overdue_heartbeat_does_not_make_poll_spin(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is while the broker hangs; faults/test_broker.py measures what that costs."""
    with patched_consumer(environ, 500, group_id=f"test-{uuid4().hex[:12]}") as consumer:
        coordinator = consumer._coordinator
        with monkeypatch.context() as patched:
            patched.setattr(coordinator, "state", MemberState.STABLE)
            patched.setattr(coordinator.heartbeat, "last_send", 0.0)
            patched.setattr(coordinator.heartbeat, "last_reset", 0.0)
            assert coordinator.time_to_next_heartbeat() == 0
            assert coordinator.time_to_next_poll() == LEAST_WAIT_S


class Failing(Deserializer):  # type: ignore[misc]
    """Reads some records, then none any more."""

    def __init__(self) -> None:
        self.left = GOOD

    def deserialize(self, topic: str, headers: Any, data: bytes) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ZeroDivisionError
        return data


def test_another_version_of_the_library_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    """Its private parts would be others, and fail somewhere else, later."""
    monkeypatch.setattr(kafka, "__version__", "3.0.13")
    with pytest.raises(RuntimeError, match=r"3\.0\.13 is installed.* 3\.0\.12"):
        connection_options(Settings.from_environment(environ))


def test_the_version_that_is_patched_is_the_one_that_is_pinned() -> None:
    assert f"kafka-python=={VERSION} " in (CHECKOUT / "requirements.txt").read_text()


def test_a_lone_record_costs_one_hand_over_to_the_thread_of_kafka_python(
    environ: dict[str, str], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not one for the group's coordinator, one to ask and one to wait."""
    with patched_consumer(environ, 500, group_id=f"test-{uuid4().hex[:12]}") as consumer:
        consumer.subscribe([topic])
        reading = Reading(consumer)

        def is_all_read() -> bool:
            resume_join(consumer)  # it may have joined before it knew of the topic
            return reading.read.total() == 2 * RECORDS

        reading.until(is_all_read, "all that is there")
        handed_over = [0]
        run = consumer._fetcher._net.run

        def counted(*args: Any) -> Any:
            handed_over[0] += 1
            return run(*args)

        monkeypatch.setattr(consumer._fetcher._net, "run", counted)
        producer = KafkaProducer(bootstrap_servers=environ["KAFKA_BROKERS"])
        producer.send(topic, value=b"x")
        found = consumer.poll(timeout_ms=10_000)
        producer.close(timeout=5)
        assert sum(map(len, found.values())) == 1
        assert handed_over == [1]


def test_after_a_rebalance_all_is_read_again_that_was_not_committed(
    environ: dict[str, str], topic: str
) -> None:
    group, brokers = f"test-{uuid4().hex[:12]}", environ["KAFKA_BROKERS"]
    with patched_consumer(
        environ, 100, group_id=group, metadata_max_age_ms=200, enable_auto_commit=False
    ) as consumer:
        consumer.subscribe(pattern=f"^{topic}.*")
        reading = Reading(consumer)
        reading.until(lambda: reading.read.total() >= RECORDS, "half of it read")
        before = reading.read.total()
        admin = KafkaAdminClient(bootstrap_servers=brokers)
        admin.create_topics([NewTopic(f"{topic}-new", 1, 1)])
        admin.close()
        new = TopicPartition(f"{topic}-new", 0)

        def has_joined_again() -> bool:
            resume_join(consumer)
            return new in consumer.assignment()

        reading.until(has_joined_again, "the new topic is ours")
        everything = before + 2 * RECORDS
        reading.until(lambda: reading.read.total() >= everything, "all of it read again")


def test_after_a_rebalance_the_end_of_a_quiet_partition_is_known(
    environ: dict[str, str], topic: str
) -> None:
    """The broker says where it is only when it has changed."""
    group = f"test-{uuid4().hex[:12]}"
    with patched_consumer(
        environ, 100, group_id=group, metadata_max_age_ms=200, enable_auto_commit=False
    ) as consumer:
        consumer.subscribe(pattern=f"^{topic}.*")
        reading = Reading(consumer)
        old = [TopicPartition(topic, number) for number in range(3)]
        reading.until(lambda: reading.read.total() == 2 * RECORDS, "all read")
        reading.until(lambda: all(consumer.highwater(p) is not None for p in old), "ends known")
        state = consumer._subscription
        with state._lock:
            state._apply_assignment(list(state.assignment), randomize=True)
            assert [consumer.highwater(place) for place in old] == [RECORDS, RECORDS, 0]
            assert [state.assignment[place].position for place in old] == [None] * 3
