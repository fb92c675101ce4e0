"""By how much what was read is behind what Kafka has. Measured by the consumer thread."""

import math
import time
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tracking.metrics import Metrics
from workers.kafka.patches import knows_coordinator

MEASURE_INTERVAL_S: Final = 5.0
POSITION_TIMEOUT_MS: Final = 5_000


class Lag:
    """Written by the consumer thread; `delay_s` and `unreachable_s` are for any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._next_at = 0.0  # time.monotonic()
        self._records: int | None = None  # not read, as measured last; None: not known yet
        self._read_until = 0.0  # Kafka's time of the newest record read, seconds since 1970
        self._unreachable_since: float | None = None  # time.monotonic()
        self.partitions = 0  # how many there are in our topics

    def delay_s(self) -> float:
        """By how much what was read is behind what Kafka has; infinite while nobody knows.

        Some seconds old.
        """
        if self._unreachable_since is not None or self._records is None:
            return self.unreachable_s() or math.inf
        return max(time.time() - self._read_until, 0.0) if self._records else 0.0

    def unreachable_s(self) -> float:
        """For how long the group's coordinator has been away; 0 when it is there."""
        since = self._unreachable_since
        return 0.0 if since is None else time.monotonic() - since

    def polled(self, polled: dict[TopicPartition, list[Any]]) -> None:
        """These records were read."""
        for records in polled.values():
            self._read_until = records[-1].timestamp / 1000

    def forget(self, partitions: set[TopicPartition]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            with suppress(KeyError):  # not measured yet
                self._metrics.lag.remove(partition.topic, partition.partition)

    def measure(self, consumer: KafkaConsumer) -> None:
        """Every few seconds."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + MEASURE_INTERVAL_S
        if knows_coordinator(consumer):
            self._unreachable_since = None
        elif self._unreachable_since is None:
            self._unreachable_since = now
        assigned = consumer.assignment()
        topics = {partition.topic for partition in assigned}
        total, known = 0, 0
        self.partitions = sum(len(consumer.partitions_for_topic(t) or ()) for t in topics)
        for partition in assigned:
            end = consumer.highwater(partition)
            offset = None if end is None else position(consumer, partition)
            if offset is not None:
                self._metrics.lag.labels(partition.topic, partition.partition).set(end - offset)
                total += end - offset
                known += 1
        self._records = total if assigned and known == len(assigned) else None


def position(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """The next offset; None while it, or the partition's leader, is not known."""
    try:
        offset: int | None = consumer.position(partition, timeout_ms=POSITION_TIMEOUT_MS)
    except KafkaError:
        return None
    return offset
