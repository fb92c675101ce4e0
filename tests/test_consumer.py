"""workers.kafka.consumer with a real Kafka: a group that changes, large records, full memory."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

from tests.running import Trip, envelope, wait_until
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.kafka.batches import Batch
from workers.kafka.connection import PARTITION_FETCH_BYTES
from workers.kafka.consumer import Consumer
from workers.kafka.dead_letters import DeadLetters
from workers.kafka.flow_control import MAX_BYTES_IN_FLIGHT

MIB = 1 << 20


class Group:
    """A topic of one partition, and what reads it."""

    def __init__(self, environ: dict[str, str], **settings: str) -> None:
        own = {
            "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
            "KAFKA_GROUP_ID": f"test-{uuid4().hex[:12]}",
        }
        self.settings = Settings.from_environment({**environ, **own, **settings})
        self.brokers = environ["KAFKA_BROKERS"]
        self.topic = self.settings.topic("runner.events")
        self.partition = TopicPartition(self.topic, 0)
        self.batches: list[Batch] = []
        self.committed: list[int] = []
        self.died: list[BaseException] = []
        self.trip = Trip()
        admin = KafkaAdminClient(bootstrap_servers=self.brokers)
        admin.create_topics([NewTopic(self.topic, 1, 1)])
        admin.close()
        self._producer = KafkaProducer(bootstrap_servers=self.brokers, max_request_size=4 * MIB)

    def produce(self, number: int, padding: int = 0) -> None:
        """Valid updates; what they carry beside is ignored."""
        for second in range(number):
            data = {**self.trip.update(second), "padding": "x" * padding}
            value = json.dumps(envelope("runner.location_update", data)).encode()
            self._producer.send(self.topic, value=value)
        self._producer.flush(timeout=60)

    @contextmanager
    def consuming(self) -> Iterator[Consumer]:
        """Batches are gathered; the test says when they are stored."""
        metrics = Metrics()
        letters = DeadLetters(self.settings, metrics, self.died.append)
        letters.start()
        consumer = Consumer(self.settings, metrics, letters, self.died.append)
        consumer.start(self.batches.append)
        try:
            yield consumer
        finally:
            consumer.stop()
            assert consumer.wait(15)
            letters.stop()
            assert letters.wait(10)
            self._producer.close(timeout=5)
            assert self.died == []

    @property
    def records(self) -> int:
        return sum(batch.size for batch in self.batches)

    @contextmanager
    def other_member(self) -> Iterator[KafkaConsumer]:
        """The assignor gives a partition to the first by name: to this one."""
        other = KafkaConsumer(
            bootstrap_servers=self.brokers, group_id=self.settings.kafka_group_id, client_id="a",
            enable_auto_commit=False, auto_offset_reset="earliest",
        )  # fmt: skip
        other.subscribe([self.topic])
        try:
            yield other
        finally:
            other.close(autocommit=False, timeout_ms=5_000)

    def offset(self) -> int:
        """What the group has committed."""
        reader = KafkaConsumer(
            bootstrap_servers=self.brokers, group_id=self.settings.kafka_group_id
        )
        try:
            return reader.committed(self.partition, timeout_ms=5_000) or 0
        finally:
            reader.close(autocommit=False)


def assigned(other: KafkaConsumer) -> bool:
    other.poll(timeout_ms=100)
    return bool(other.assignment())


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every offset that is sent to the coordinator, in order."""
    sent: list[int] = []
    commit_async = KafkaConsumer.commit_async

    def recorded(self: Any, offsets: dict[Any, OffsetAndMetadata], callback: Any) -> Any:
        sent.extend(each.offset for each in offsets.values())
        return commit_async(self, offsets, callback)

    monkeypatch.setattr(KafkaConsumer, "commit_async", recorded)
    return sent


def test_what_was_in_flight_never_takes_a_partition_back(
    environ: dict[str, str], commits: list[int]
) -> None:
    group = Group(environ)
    group.produce(3)
    with group.consuming() as consumer:
        wait_until(lambda: group.records == 3, "three records read")
        old = list(group.batches)
        group.batches.clear()
        with group.other_member() as other:
            wait_until(lambda: assigned(other), "the other member has the partition")
            group.produce(5)
            other.commit({group.partition: OffsetAndMetadata(6, "", -1)})
        # kafka-python now and then reads on from where it was itself: that is once more, not less.
        wait_until(lambda: group.records >= 2, "it is ours again, from where the other was")
        wait_until(lambda: set(group.batches[-1].offsets.values()) == {8}, "all is read")
        for batch in old:
            consumer.stored(batch)
        seen = consumer.last_poll
        wait_until(lambda: consumer.last_poll > seen + 1, "time to commit it")
        for batch in group.batches:
            consumer.stored(batch)
        wait_until(lambda: group.offset() == 8, "committed to the end")
    assert commits == sorted(commits)
    assert min(commits) > 6


def test_nothing_is_committed_for_a_partition_of_another_member(
    environ: dict[str, str], commits: list[int]
) -> None:
    group = Group(environ)
    group.produce(3)
    with group.consuming() as consumer:
        wait_until(lambda: group.records == 3, "three records read")
        with group.other_member() as other:
            wait_until(lambda: assigned(other), "the other member has the partition")
            for batch in group.batches:
                consumer.stored(batch)
            wait_until(lambda: consumer._flow.records == 0, "noted as stored")
            seen = consumer.last_poll
            wait_until(lambda: consumer.last_poll > seen + 1, "and time to commit it")
            assert (commits, group.offset()) == ([], 0)
    assert commits == []


def test_a_member_that_is_full_lets_others_join(environ: dict[str, str]) -> None:
    """While the database is away nothing is read, and the group goes on."""
    group = Group(environ, BATCH_RECORDS="1")
    group.produce(5)
    with group.consuming():
        wait_until(lambda: group.records == 2, "two batches in flight")
        with group.other_member() as other:
            wait_until(lambda: assigned(other), "the other member has the partition", 15)
        assert [batch.size for batch in group.batches] == [1, 1]


def test_a_commit_that_failed_is_tried_again(environ: dict[str, str]) -> None:
    group = Group(environ)
    group.produce(3)
    with group.consuming() as consumer:
        wait_until(lambda: group.records == 3, "three records read")
        generations = {group.partition: consumer._commits.offsets.generation(group.partition)}
        failed = {group.partition: OffsetAndMetadata(3, "", -1)}
        consumer._commits._answered(generations, failed, RuntimeError("the coordinator moves"))
        wait_until(lambda: group.offset() == 3, "committed")
        # ... but not once the partition was somebody else's.
        consumer._commits._answered(
            {group.partition: -1}, failed, RuntimeError("the group rebalances")
        )
        assert group.partition not in consumer._commits._pending


def test_what_is_in_flight_is_bounded_by_its_bytes(environ: dict[str, str]) -> None:
    group = Group(environ)
    group.produce(60, padding=MIB - 1_000)
    with group.consuming() as consumer:
        wait_until(lambda: sum(b.bytes for b in group.batches) >= MAX_BYTES_IN_FLIGHT, "full")
        polled = time.monotonic()
        wait_until(lambda: consumer.last_poll > polled + 2, "more polls")
        assert sum(batch.bytes for batch in group.batches) < MAX_BYTES_IN_FLIGHT + 2 * MIB
        read = 0
        while read < 60:
            wait_until(lambda: bool(group.batches), "more records")
            batch = group.batches.pop(0)
            read += batch.size
            consumer.stored(batch)
        wait_until(lambda: group.offset() == 60, "all committed")


def test_record_batches_larger_than_a_fetch_are_read(environ: dict[str, str]) -> None:
    """5 MB wait at the start, in batches of nearly a megabyte, and a record of one."""
    group = Group(environ)
    producer = KafkaProducer(bootstrap_servers=group.brokers, batch_size=900 << 10, linger_ms=2_000)
    value = json.dumps(envelope("runner.location_update", group.trip.update(0))).encode()
    number = 5_000_000 // len(value)
    for _ in range(number):
        producer.send(group.topic, value=value)
    producer.flush(timeout=60)
    producer.close(timeout=5)
    group.produce(1, padding=MIB - 1_000)
    assert PARTITION_FETCH_BYTES < 900 << 10
    with group.consuming() as consumer:
        stored = 0
        while stored <= number:
            wait_until(lambda: bool(group.batches), "more records")
            batch = group.batches.pop(0)
            stored += batch.size
            assert batch.outcomes.total() == 0
            consumer.stored(batch)
        wait_until(lambda: group.offset() == number + 1, "all committed")
