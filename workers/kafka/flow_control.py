"""Which partitions are read, and how long poll() may wait. Consumer thread only."""

import math
import time
from bisect import bisect_right
from functools import partial
from typing import Final

from kafka import KafkaConsumer, TopicPartition

from workers.kafka.alignment import Alignment, Records, timestamp_of
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

    def __init__(self, limit: int, routed_topic: str = "") -> None:
        """`limit` is how many records one poll() may give."""
        self._alignment = Alignment(routed_topic)
        self._limit = limit

    def going_on(self, polled: Records, consumer: KafkaConsumer) -> list[Records]:
        """What may be stored now of what was polled and what waited, in parts of a poll's size."""
        end_of = partial(readable_end, consumer)
        return _parts(self._alignment.merged(polled, end_of, time.monotonic()), self._limit)

    def released(self, partition: TopicPartition) -> list[Records]:
        """All that waits of a partition, in such parts."""
        return _parts(self._alignment.released([partition]), self._limit)

    def waiting(self) -> dict[TopicPartition, int]:
        """Partitions of which something waits for others, and the offset with which that begins."""
        return self._alignment.waiting()

    @property
    def waiting_bytes(self) -> int:
        return self._alignment.bytes

    def clear(self) -> None:
        """What waits is read again."""
        self._alignment.clear()

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
        paused, waiting = consumer.paused(), held | (self._alignment.ahead() & assigned)
        if waiting - paused:
            consumer.pause(*(waiting - paused))
        if paused - waiting:
            consumer.resume(*(paused - waiting))
        return HELD_TIMEOUT_MS if waiting or self._alignment.waiting() else POLL_TIMEOUT_MS


def _parts(records: Records, limit: int) -> list[Records]:
    """The same in parts of so many records, each of them newer than the part before it.

    By Kafka's time, as far as it is in order within a partition, whose order stays. Parts of one
    partition after the other would make all but the first late, whenever a transaction ends between
    two parts.
    """
    times = sorted(timestamp_of(record) for listed in records.values() for record in listed)
    parts: list[Records] = []
    done = dict.fromkeys(records, 0)
    for until in [*times[limit - 1 :: limit], math.inf]:
        part = {}
        for partition, listed in records.items():
            first = done[partition]
            done[partition] = max(bisect_right(listed, until, key=timestamp_of), first)
            if done[partition] > first:
                part[partition] = listed[first : done[partition]]
        parts += _limited(part, limit)
    return parts


def _limited(records: Records, limit: int) -> list[Records]:
    """No more than so many records each, though many have the same time."""
    parts: list[Records] = []
    left = 0
    for partition, waiting in records.items():
        first = 0
        while first < len(waiting):
            if not left:
                parts.append({})
                left = limit
            part = parts[-1][partition] = waiting[first : first + left]
            first += len(part)
            left -= len(part)
    return parts
