"""Commits offsets of what is stored and acknowledged, to the group's coordinator."""

import logging
import time
from collections.abc import Container
from functools import partial
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from workers.kafka.alignment import Records
from workers.kafka.forwarded import end_of
from workers.kafka.offsets import Offsets
from workers.kafka.patches import next_offset

log = logging.getLogger("tracking.consumer")

# Committing costs a round trip, and a crash in between only means duplicates.
COMMIT_INTERVAL_S: Final = 0.5
# The group's coordinator may be away; storing goes on without it.
COMMIT_TIMEOUT_MS: Final = 5_000


class Commits:
    """Offsets on their way to the coordinator. Consumer thread only."""

    def __init__(self, offsets: Offsets) -> None:
        self._offsets = offsets
        self._pending: dict[TopicPartition, int] = {}
        self._failing = False
        self._next_at = 0.0  # time.monotonic()

    def revoked(self, partitions: set[TopicPartition]) -> None:
        """What is on its way for these is not tried again."""
        for partition in partitions:
            self._pending.pop(partition, None)

    def commit(self, consumer: KafkaConsumer) -> None:
        """Send what may be committed, at most twice a second, and do not wait for the answer."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._pending |= self._offsets.pop_ready()
        if not self._pending:
            return
        self._next_at = now + COMMIT_INTERVAL_S
        offsets = self._take_ours(consumer)
        if offsets:
            generations = {each: self._offsets.generation(each) for each in offsets}
            answered = partial(self._answered, generations)
            try:
                consumer.commit_async(offsets, callback=answered)
            except KafkaError as error:
                _log_lost(error)

    def commit_and_wait(self, consumer: KafkaConsumer) -> None:
        """The last commit of this consumer."""
        self._pending |= self._offsets.pop_ready()
        offsets = self._take_ours(consumer)
        if offsets:
            try:
                consumer.commit(offsets, timeout_ms=COMMIT_TIMEOUT_MS)
            except KafkaError as error:
                _log_lost(error)

    def _take_ours(self, consumer: KafkaConsumer) -> dict[TopicPartition, OffsetAndMetadata]:
        """A partition that went to another member is that one's to commit."""
        ours = consumer.assignment()
        offsets = {
            partition: OffsetAndMetadata(offset, "", -1)
            for partition, offset in self._pending.items()
            if partition in ours
        }
        self._pending.clear()
        return offsets

    def _answered(
        self,
        generations: dict[TopicPartition, int],
        offsets: dict[TopicPartition, OffsetAndMetadata],
        response: object,
    ) -> None:
        """Called in poll() or in the next commit."""
        if not isinstance(response, Exception):
            self._failing = False
            return
        # Normal while the group rebalances, or its coordinator moves. Said once.
        if not self._failing:
            log.info("offsets not committed yet, trying on: %r", response)
        self._failing = True
        for partition, offset in offsets.items():
            if generations[partition] == self._offsets.generation(partition):
                self._pending.setdefault(partition, offset.offset)  # unless there is a newer one


def ends_of(
    consumer: KafkaConsumer, part: Records, behind: Container[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offsets to be committed for a part; more of the partitions `behind` was read.

    Of the others the control records that follow were read, too.
    """
    ends = {partition: end_of(records[-1]) for partition, records in part.items()}
    return {
        partition: end if partition in behind else next_offset(consumer, partition) or end
        for partition, end in ends.items()
    }


def _log_lost(error: KafkaError) -> None:
    log.info("offsets not committed, the records may come again: %r", error)
