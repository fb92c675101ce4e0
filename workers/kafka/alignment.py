"""Keeps the partitions of a backlog together in time. Consumer thread only.

A trip's events are spread over all partitions. Where one is read far ahead of another, every
waypoint of the other is late: it costs look-ups, and viewers get backfills instead of positions.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

# Seconds of Kafka's time that a partition may be ahead of the slowest: with 1.0 a backlog that was
# produced fast costs twice as much to store.
AHEAD_S: Final = 0.1
# With fewer records left a partition is live, and never waits for another's past.
BACKLOG: Final = 10_000
# A partition that has given nothing for so long (its broker is away) holds up nobody.
PROGRESS_S: Final = 1.0


class _Position(NamedTuple):
    offset: int  # the next one
    time: float  # Kafka's, of the newest record read; seconds since 1970
    read_at: float  # time.monotonic()


class Alignment:
    """What was read of each partition, and which of them have to wait for the others."""

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, _Position] = {}

    def read(self, partition: TopicPartition, records: Sequence[Any], now: float) -> None:
        """These records were polled; `now` is time.monotonic()."""
        last = records[-1]
        self._positions[partition] = _Position(last.offset + 1, last.timestamp / 1000, now)

    def forget(self, partitions: set[TopicPartition]) -> None:
        """They are not ours any more."""
        for partition in partitions:
            self._positions.pop(partition, None)

    def ahead(
        self,
        partitions: set[TopicPartition],
        end_of: Callable[[TopicPartition], int | None],
        now: float,
    ) -> set[TopicPartition]:
        """Which of these have a backlog and are ahead of another that has one and moves."""
        behind = {
            partition: position
            for partition in partitions
            if (position := self._positions.get(partition)) is not None
            and (end_of(partition) or 0) - position.offset > BACKLOG
        }
        moving = [p.time for p in behind.values() if now - p.read_at < PROGRESS_S]
        limit = min(moving, default=float("inf")) + AHEAD_S
        return {partition for partition, position in behind.items() if position.time > limit}
