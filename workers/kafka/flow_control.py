"""Which partitions are read, and how long poll() may wait. Consumer thread only."""

import time
from functools import partial
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from workers.kafka.alignment import Alignment
from workers.kafka.patches import readable_end

# Decoding one poll takes some 10 ms: the interpreter is not held for longer beside live viewers.
POLL_RECORDS: Final = 1000
# How long poll() waits for a record; a stop and a commit wait for it, too. An empty poll() costs a
# millisecond of CPU.
POLL_TIMEOUT_MS: Final = 500
# The same while a partition is held back, or all are: soon something may let it go on.
HELD_TIMEOUT_MS: Final = 100


class FlowControl:
    """Waiting is the backpressure: a partition is paused, and `poll()` goes on."""

    def __init__(self) -> None:
        self._alignment = Alignment()

    def polled(self, polled: dict[TopicPartition, list[Any]]) -> None:
        """These records were read."""
        for partition, records in polled.items():
            self._alignment.read(partition, records, time.monotonic())

    def revoked(self, partitions: set[TopicPartition]) -> None:
        """They are not ours any more."""
        self._alignment.forget(partitions)

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
        end_of = partial(readable_end, consumer)
        ahead = self._alignment.ahead(assigned - held, end_of, time.monotonic())
        paused, waiting = consumer.paused(), held | ahead
        if waiting - paused:
            consumer.pause(*(waiting - paused))
        if paused - waiting:
            consumer.resume(*(paused - waiting))
        return HELD_TIMEOUT_MS if waiting else POLL_TIMEOUT_MS
