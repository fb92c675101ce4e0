"""By how much what was read is behind what Kafka has. Measured by the consumer thread."""

import logging
import math
import time
from collections.abc import Collection
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from tracking.metrics import Metrics
from workers.kafka.patches import has_joined, knows_coordinator, last_stable_offset, next_offset

log = logging.getLogger("tracking.consumer")

MEASURE_INTERVAL_S: Final = 5.0
# A transaction lasts for milliseconds; Kafka itself ends one after a minute, by default.
OPEN_TRANSACTION_S: Final = 10.0


class Lag:
    """Written by the consumer thread; what is public may be read by any thread."""

    def __init__(self, metrics: Metrics, *, is_alone: bool = True, routed_topic: str = "") -> None:
        """`is_alone`: nobody else reads for us; so what is not ours is not read."""
        self._routed_topic = routed_topic
        self._metrics = metrics
        self._is_alone = is_alone
        self._next_at = 0.0  # time.monotonic()
        self._assigned: set[TopicPartition] = set()
        self._known = False  # whether each partition's lag is
        # All that Kafka got before was read: Kafka's time, seconds since 1970.
        self._read_until: dict[TopicPartition, float] = {}
        self._behind: set[TopicPartition] = set()  # partitions with something to read, or held
        self._unreachable_since: float | None = None  # time.monotonic()
        # Partition -> its last stable offset, and since when it stands still (time.monotonic()).
        self._open: dict[TopicPartition, tuple[int, float]] = {}
        self._told_open: set[TopicPartition] = set()  # those of them that were logged
        self.partitions = 0  # how many there are in our topics
        self.positions: dict[TopicPartition, int] = {}  # next offsets, as measured last

    def delay_s(self) -> float:
        """By how much what was read is behind what Kafka has; infinite while nobody knows.

        The oldest of the partitions that lag or are held counts: whatever happened before this
        many seconds ago was read, in every partition.
        """
        if self._unreachable_since is not None or not self._known:
            return self.unreachable_s() or math.inf
        until = [self._read_until.get(each, -math.inf) for each in list(self._behind)]
        return max(time.time() - min(until, default=math.inf), 0.0)

    def unreachable_s(self) -> float:
        """For how long the group's coordinator has been away; 0 when it is there."""
        since = self._unreachable_since
        return 0.0 if since is None else time.monotonic() - since

    def open_transactions(self) -> dict[TopicPartition, float]:
        """Partitions that cannot be read on until a producer ends its transaction; seconds."""
        now = time.monotonic()
        lasting = {each: now - since for each, (_, since) in list(self._open.items())}
        return {each: age for each, age in lasting.items() if age >= OPEN_TRANSACTION_S}

    def polled(self, consumer: KafkaConsumer, polled: dict[TopicPartition, list[Any]]) -> None:
        """These records were read."""
        now = time.time()
        for partition, records in polled.items():
            last = records[-1]
            # A producer's clock may be ahead.
            until = min(last.timestamp / 1000, now)
            if partition.topic == self._routed_topic:  # several processes' records, in no order
                until = min(until, self._read_until.get(partition, until))
            self._read_until[partition] = until
            if consumer.highwater(partition) == last.offset + 1:
                self._caught_up(partition)

    def revoked(self, partitions: set[TopicPartition]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._behind.discard(partition)
            self._read_until.pop(partition, None)
            self.positions.pop(partition, None)
            self._end_transaction(partition)
            self._metrics.lag.remove(*_labels(partition))

    def measure(self, consumer: KafkaConsumer, held: Collection[TopicPartition]) -> bool:
        """Every few seconds, and at once while something is not known. True if it was time.

        Of partitions that are `held` (paused) nobody knows what Kafka has.
        """
        now, assigned = time.monotonic(), consumer.assignment()
        if now < self._next_at and self._known and assigned == self._assigned:
            return False
        self._next_at, self._assigned = now + MEASURE_INTERVAL_S, assigned
        if knows_coordinator(consumer):
            self._unreachable_since = None
        elif self._unreachable_since is None:
            self._unreachable_since = now
        topics = consumer.subscription() or ()
        self.partitions = sum(len(consumer.partitions_for_topic(t) or ()) for t in topics)
        known = [self._measure(consumer, each, each in held) for each in assigned]
        if self._is_alone:
            is_read = len(assigned) >= max(self.partitions, 1)
        else:
            is_read = has_joined(consumer)  # the others say for themselves how far they are
        self._known = is_read and all(known)
        return True

    def _measure(self, consumer: KafkaConsumer, partition: TopicPartition, held: bool) -> bool:
        """False while the partition's end is not known."""
        end = consumer.highwater(partition)
        offset = next_offset(consumer, partition)
        if end is None or offset is None:
            if held:
                self._behind.add(partition)
            return held
        self.positions[partition] = offset
        self._metrics.lag.labels(*_labels(partition)).set(end - offset)
        if held or offset < end:
            self._behind.add(partition)
        else:
            self._caught_up(partition)
        self._look_for_transaction(partition, offset, last_stable_offset(consumer, partition), end)
        return True

    def _caught_up(self, partition: TopicPartition) -> None:
        self._behind.discard(partition)
        self._read_until[partition] = time.time()

    def _look_for_transaction(
        self, partition: TopicPartition, offset: int, stable: int | None, end: int
    ) -> None:
        """All is read up to the last stable offset, and there is more: somebody has to end it."""
        if stable is None or offset < stable or stable >= end:
            self._end_transaction(partition)
            return
        now = time.monotonic()
        before, since = self._open.get(partition, (stable, now))
        if before != stable:
            since = now
            self._told_open.discard(partition)
        self._open[partition] = (stable, since)
        gauge = self._metrics.open_transaction.labels(*_labels(partition))
        gauge.set(now - since)
        if now - since >= OPEN_TRANSACTION_S and partition not in self._told_open:
            self._told_open.add(partition)
            log.warning("partition %s/%d cannot be read on from offset %d: a producer's transaction"
                        " has been open for %.0f s", *partition, stable, now - since)  # fmt: skip

    def _end_transaction(self, partition: TopicPartition) -> None:
        self._told_open.discard(partition)
        if self._open.pop(partition, None) is not None:
            self._metrics.open_transaction.remove(*_labels(partition))


def _labels(partition: TopicPartition) -> tuple[str, str]:
    return partition.topic, str(partition.partition)
