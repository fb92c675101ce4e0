"""The consumer on a topic of one partition, without the rest of the server."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from uuid import uuid4

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.running import Trip, envelope
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.breaker import Breaker
from workers.kafka.batches import Batch
from workers.kafka.consumer import Consumer
from workers.kafka.dead_letter_sender import DeadLetterSender

MIB = 1 << 20


class Group:
    """A topic, of one partition unless more are asked for, and what reads it."""

    def __init__(self, environ: dict[str, str], partitions: int = 1, **settings: str) -> None:
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
        self.metrics = Metrics()
        self.start_sender: Callable[[], None] = lambda: None
        self.breaker = Breaker(self.metrics)
        admin = KafkaAdminClient(bootstrap_servers=self.brokers)
        admin.create_topics([NewTopic(self.topic, partitions, 1)])
        admin.close()
        self._producer = KafkaProducer(bootstrap_servers=self.brokers, max_request_size=4 * MIB)

    def produce(self, number: int, padding: int = 0, partition: int | None = None) -> None:
        """Valid updates; what they carry beside is ignored."""
        for second in range(number):
            data = {**self.trip.update(second), "padding": "x" * padding}
            value = json.dumps(envelope("runner.location_update", data)).encode()
            self._producer.send(self.topic, value=value, partition=partition)
        self._producer.flush(timeout=60)

    def produce_at(self, partition: int, times: Iterable[int]) -> None:
        """Valid updates that Kafka got at these times, in milliseconds since 1970."""
        for second, time in enumerate(times):
            value = json.dumps(envelope("runner.location_update", self.trip.update(second)))
            self._producer.send(
                self.topic, value=value.encode(), partition=partition, timestamp_ms=time
            )
        self._producer.flush(timeout=60)

    def produce_raw(self, number: int, value: bytes, partition: int | None = None) -> None:
        for _ in range(number):
            self._producer.send(self.topic, value=value, partition=partition)
        self._producer.flush(timeout=60)

    @contextmanager
    def consuming(
        self, *, is_slow: bool = False, gathers: bool | None = None
    ) -> Iterator[Consumer]:
        """Batches are gathered; the test says when they are stored.

        With `is_slow` dead letters are sent from `start_sender` on, and batches are stored at once,
        unless it `gathers` them.
        """
        gathers = not is_slow if gathers is None else gathers
        metrics = self.metrics
        sender = DeadLetterSender(self.settings, metrics, self.died.append)
        consumer = Consumer(self.settings, metrics, sender, self.breaker, self.died.append)
        self.start_sender = lambda: sender.start(consumer.acknowledged)
        if not is_slow:
            self.start_sender()
        consumer.start(self.batches.append if gathers else consumer.stored)
        try:
            yield consumer
        finally:
            consumer.stop()
            assert consumer.wait(15)
            sender.stop()
            assert sender.wait(10)
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
