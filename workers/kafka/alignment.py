"""Makes a backlog arrive in order: its partitions are merged by Kafka's time. Consumer thread only.

A trip's events are spread over all partitions. Read one partition after the other, every waypoint
of the second would be late: it costs look-ups, and viewers get backfills instead of positions. So
what was read of a partition with a backlog goes on only as far as all such partitions were read.
What another process forwards to this one comes from a backlog that this one does not see.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

from workers.kafka.dead_letters import size_of

# With fewer records left a partition is live, and never waits for another's past.
BACKLOG: Final = 1_000
# A partition of which so many records wait is not read further.
AHEAD_RECORDS: Final = 2_000
# Forwarded records of so long ago are a backlog's: they and ours wait for each other.
OLD_S: Final = 10.0
# Of all partitions: what waits is in memory. With more, everything goes on as it came.
HELD_BYTES: Final = 8 << 20
# A partition that has given nothing for so long (its broker is away, a transaction is open) holds
# up nobody; and how much of the time between two polls counts: while nothing is read at all,
# because the database is behind, no partition can give anything.
PROGRESS_S: Final = 1.0
POLL_S: Final = 0.1

Records = dict[TopicPartition, list[Any]]


class _Position(NamedTuple):
    offset: int  # the next one
    timestamp: int  # Kafka's, of the newest record read, in milliseconds
    read_at: float  # by the clock of Alignment


class Alignment:
    """What was read of each partition and waits for the others."""

    def __init__(self, routed_topic: str = "") -> None:
        """`routed_topic`: what comes from it was read by other processes."""
        self._routed_topic = routed_topic
        self._positions: dict[TopicPartition, _Position] = {}
        self._held: Records = {}
        self._clock = 0.0  # seconds in which partitions were read
        self._seen_at = 0.0  # time.monotonic()
        self.bytes = 0  # that wait

    def merged(
        self,
        polled: Mapping[TopicPartition, list[Any]],
        end_of: Callable[[TopicPartition], int | None],
        now: float,
    ) -> Records:
        """What goes on now: of each partition a part of what waited and was polled, from the front.

        `end_of` is a partition's high-water mark, `now` time.monotonic(). Called after each poll,
        an empty one, too.
        """
        self._clock += min(now - self._seen_at, POLL_S)
        self._seen_at = now
        for partition, records in polled.items():
            last = records[-1]
            self._positions[partition] = _Position(last.offset + 1, last.timestamp, self._clock)
            self._held[partition] = self._held.get(partition, []) + records
            self.bytes += sum(map(size_of, records))
        behind = self._behind(end_of)
        if self.bytes > HELD_BYTES or not behind:
            return self.released(list(self._held))
        until = min(behind.values())
        found = self.released(self._held.keys() - behind.keys())
        for partition in self._held.keys() & behind.keys():
            found |= self._released(partition, until)
        return found

    def _behind(self, end_of: Callable[[TopicPartition], int | None]) -> dict[TopicPartition, int]:
        """The partitions that have a backlog and move, and until when they were read."""
        moving = {
            partition: position
            for partition, position in self._positions.items()
            if self._clock - position.read_at < PROGRESS_S
        }
        behind = {
            partition: position.timestamp
            for partition, position in moving.items()
            if (end_of(partition) or 0) - position.offset > BACKLOG
        }
        if behind:
            old = (time.time() - OLD_S) * 1000
            for partition, position in moving.items():
                if partition.topic == self._routed_topic and position.timestamp < old:
                    behind[partition] = position.timestamp
        return behind

    def released(self, partitions: Iterable[TopicPartition]) -> Records:
        """All that waits of these partitions."""
        found: Records = {}
        for partition in partitions:
            found |= self._released(partition, None)
        return found

    def _released(self, partition: TopicPartition, until: int | None) -> Records:
        """From the front, up to a time: several producers wrote it, which is nearly in order."""
        held = self._held.get(partition, [])
        count = len(held) if until is None else bisect_right(held, until, key=timestamp_of)
        going, rest = held[:count], held[count:]
        self._held.pop(partition, None)
        if rest:
            self._held[partition] = rest
        self.bytes -= sum(map(size_of, going))
        return {partition: going} if going else {}

    def waiting(self) -> dict[TopicPartition, int]:
        """Partitions of which something waits for others, and the offset with which that begins."""
        return {partition: records[0].offset for partition, records in self._held.items()}

    def ahead(self) -> set[TopicPartition]:
        """Partitions that are not to be read further for now."""
        return {p for p, records in self._held.items() if len(records) >= AHEAD_RECORDS}

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """They are not ours any more: what waits of them is somebody else's to read."""
        for partition in partitions:
            self._positions.pop(partition, None)
            self.released([partition])

    def clear(self) -> None:
        """Another consumer begins where the group has committed."""
        self.forget([*self._positions])


def timestamp_of(record: Any) -> int:
    """Kafka's time of a record, in milliseconds since 1970."""
    return int(record.timestamp)
