"""Gives the records of bookings that another ingest process stores to that process. ADR 0047.

Consumer thread only; librdkafka's own threads talk to Kafka.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka import KafkaConsumer, TopicPartition

from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.kafka.dead_letters import RETRY_TOPIC
from workers.kafka.forwarded import (
    ROUTED_TOPIC,
    Bundle,
    Elsewhere,
    bundles_of,
    encoded,
    shard_in,
    unbundled,
)
from workers.relay.client import library, options

log = logging.getLogger("tracking.forwarding")

Records = dict[TopicPartition, list[Any]]

# Its offsets are committed at the source, so this copy must not be lost: over a weekend it may wait
# for a process that hangs.
TOPIC_CONFIG: Final = {
    "retention.ms": str(3 * 86_400_000),
    "retention.bytes": "-1",
    "segment.bytes": str(64 << 20),
    # Age is that of the copy: a broker may be set to take the producer's word.
    "message.timestamp.type": "LogAppendTime",
}
# What Kafka has not taken by then is stored here.
OLDEST_MS: Final = 5_000
# ... and so long nothing more is forwarded to that partition.
REST_S: Final = 10.0
MAKE_EVERY_S: Final = 5.0
PRODUCER_OPTIONS: Final[dict[str, Any]] = {
    "acks": "all",
    "linger.ms": 0,
    # What one fetch brings of a partition is bounded in bytes as they travel.
    "compression.type": "none",
    # Made with our configuration, or not at all.
    "allow.auto.create.topics": False,
    "message.timeout.ms": OLDEST_MS,
}


class Forwarder:
    """`exchange` after each poll; what came of it comes back through `done` and `returned`."""

    def __init__(
        self, settings: Settings, metrics: Metrics, done: Callable[[Bundle], None]
    ) -> None:
        """`done` is told of each bundle that Kafka keeps, on the consumer thread."""
        self._topic = settings.topic(ROUTED_TOPIC)
        self._retry_topic = settings.topic(RETRY_TOPIC)
        self._wanted = settings.relay_partitions
        self._forwards = settings.forwards
        self._metrics = metrics
        self._done = done
        self._returned: list[Bundle] = []
        self._options = options(settings)
        self._producer: Producer | None = None
        self._admin: AdminClient | None = None
        self._make_at = 0.0  # time.monotonic()
        self._told = False  # that it cannot be made
        self._failing = False
        # Partitions that Kafka does not take, until when: time.monotonic().
        self._resting: dict[int, float] = {}

    def exchange(self, polled: Records, consumer: KafkaConsumer) -> tuple[Records, list[Bundle]]:
        """What is to be stored here of what was polled, and what is on its way elsewhere.

        Of the latter a place is left, so that order and offsets are those of what was polled.
        """
        found = dict(polled)
        for partition in [each for each in polled if each.topic == self._topic]:
            found[partition] = [one for record in polled[partition] for one in unbundled(record)]
        if not self._forwards:
            return found, []
        ours = {each.partition for each in consumer.assignment() if each.topic == self._topic}
        if not ours:  # nobody has a shard yet, or there are more processes than shards
            self._make_topic(consumer)
            return found, []
        if self._topic not in (consumer.subscription() or ()):
            return found, []  # it is gone, and the group has not noticed yet
        count = len(consumer.partitions_for_topic(self._topic) or ())
        if count <= len(ours):
            return found, []
        now = time.monotonic()
        ours |= {partition for partition, until in self._resting.items() if now < until}
        leaving: dict[int, list[Any]] = defaultdict(list)
        for partition in polled:
            if partition.topic not in (self._topic, self._retry_topic):
                found[partition] = _kept(polled[partition], ours, count, leaving)
        return found, list(self._send_all(leaving))

    def _send_all(self, leaving: dict[int, list[Any]]) -> Iterable[Bundle]:
        for partition, records in leaving.items():
            for bundle in bundles_of(records):
                self._send(partition, bundle)
                yield bundle

    def _send(self, partition: int, bundle: Bundle) -> None:
        if self._producer is None:
            self._producer = Producer(self._options | PRODUCER_OPTIONS | {"logger": library})
        try:
            self._producer.produce(
                self._topic, encoded(bundle), None, partition,
                on_delivery=partial(self._delivered, partition, bundle),
            )  # fmt: skip
        except (BufferError, KafkaException) as error:
            self._delivered(partition, bundle, error, None)

    def _delivered(self, partition: int, bundle: Bundle, error: Any, _: Any) -> None:
        if error is None:
            self._resting.pop(partition, None)
            self._failing = bool(self._resting)
            self._metrics.forwarded.inc(len(bundle.records))
            self._done(bundle)
            return
        if not self._failing:
            log.warning("%s does not take records, storing them here: %s", self._topic, error)
        self._failing = True
        self._resting[partition] = time.monotonic() + REST_S
        self._metrics.not_forwarded.inc(len(bundle.records))
        self._returned.append(bundle)

    def returned(self, wait_s: float = 0.0) -> list[Bundle]:
        """What Kafka has not taken, since the last call: it is to be stored here."""
        if self._producer is not None:
            if wait_s:
                self._producer.flush(wait_s)
            self._producer.poll(0)
        returned, self._returned = self._returned, []
        return returned

    def _make_topic(self, consumer: KafkaConsumer) -> None:
        """Ask for it, and wait for nothing: the consumer finds it within seconds."""
        now = time.monotonic()
        if now < self._make_at or self._topic in (consumer.subscription() or ()):
            return
        self._make_at = now + MAKE_EVERY_S
        if self._admin is None:
            self._admin = AdminClient(self._options | {"log_level": 0})
        new = NewTopic(self._topic, self._wanted, -1, config=dict(TOPIC_CONFIG))
        self._admin.create_topics([new])[self._topic].add_done_callback(self._made)

    def _made(self, future: "Future[None]") -> None:
        """On a thread of librdkafka's client. Others may have made it first."""
        error = future.exception()
        if not isinstance(error, KafkaException):
            return
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS and not self._told:
            self._told = True
            log.warning("%s cannot be made, so processes wait for each other's locks: %s",
                        self._topic, error.args[0].str())  # fmt: skip


def _kept(
    records: list[Any], ours: set[int], count: int, leaving: dict[int, list[Any]]
) -> list[Any]:
    """The records of a partition, with places for those that leave."""
    kept: list[Any] = []
    for record in records:
        shard = shard_in(record)
        if shard is None or shard % count in ours:
            kept.append(record)
        else:
            leaving[shard % count].append(record)
            kept.append(Elsewhere(record.offset, record.timestamp))
    return kept
