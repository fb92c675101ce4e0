"""How much is in flight, and which partitions are read meanwhile. Consumer thread only."""

import time
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from workers.kafka.alignment import Alignment
from workers.kafka.batches import Batch

# Decoding one poll takes some 10 ms: the interpreter is not held for longer beside live viewers.
POLL_RECORDS: Final = 1000
# How long poll() waits for a record; a stop and a commit wait for it, too. An empty poll() costs a
# millisecond of CPU.
POLL_TIMEOUT_MS: Final = 500
# The same while a partition is held back, or all are: soon something may let it go on.
HELD_TIMEOUT_MS: Final = 100
# Two batches of ordinary records are 4 MiB; 32 MiB bound those of a producer gone wild.
MAX_BYTES_IN_FLIGHT: Final = 32 << 20


class FlowControl:
    """Waiting is the backpressure: while two batches are in flight nothing is read."""

    def __init__(self, batch_records: int) -> None:
        self._batch_records = batch_records
        self._alignment = Alignment()
        self.records = 0  # in flight: read and not stored
        self.bytes = 0

    def polled(self, polled: dict[TopicPartition, list[Any]]) -> None:
        """These records were read."""
        for partition, records in polled.items():
            self._alignment.read(partition, records, time.monotonic())

    def handed_over(self, batch: Batch) -> None:
        self.records += batch.size
        self.bytes += batch.bytes

    def stored(self, batch: Batch) -> None:
        self.records -= batch.size
        self.bytes -= batch.bytes

    def forget(self, partitions: set[TopicPartition]) -> None:
        """They are not ours any more."""
        self._alignment.forget(partitions)

    def is_full(self, dead_letters: int) -> bool:
        """`dead_letters` wait for Kafka's acknowledgement."""
        return (
            self.records + dead_letters >= 2 * self._batch_records
            or self.bytes >= MAX_BYTES_IN_FLIGHT
        )

    def room(self) -> int:
        """Records for one poll(): no batch is larger than a transaction."""
        return min(POLL_RECORDS, self._batch_records)

    def pause_all(self, consumer: KafkaConsumer) -> int:
        """Read nothing; how long the next poll() may wait, in milliseconds.

        The group's heartbeat goes on; what a rebalance brings is paused all the same. A poll()
        that does not wait never gets through a rebalance, and holds up the group.
        """
        consumer.pause(*consumer.assignment())
        return HELD_TIMEOUT_MS

    def pause(self, consumer: KafkaConsumer, held: set[TopicPartition]) -> int:
        """Read all but those that are held and those that are far ahead of the others.

        How long the next poll() may wait, in milliseconds.
        """
        assigned = consumer.assignment()
        held &= assigned
        ahead = self._alignment.ahead(assigned - held, consumer.highwater, time.monotonic())
        paused, waiting = consumer.paused(), held | ahead
        if waiting - paused:
            consumer.pause(*(waiting - paused))
        if paused - waiting:
            consumer.resume(*(paused - waiting))
        return HELD_TIMEOUT_MS if waiting else POLL_TIMEOUT_MS
