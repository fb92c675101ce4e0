"""Which partitions of the relay a live process reads: all, or those of the rooms that are watched.

IOLoop thread. The relay's thread looks at `wanted`, does it, and tells what it reads (`told`): so a
partition that is let go and wanted again is never taken for one that was read all the time.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Final, NamedTuple
from uuid import UUID

from tracking.live.fleet import Fleet
from tracking.live.rooms import Rooms
from tracking.wire.relay import shard_of

# Viewers who lost their link are back by then, and a page that is reloaded is.
LINGER_S: Final = 60.0
LOOK_S: Final = 1.0
# Many times what Kafka takes to say where a partition ends. After that the room opens all the same:
# what it misses is healed from the table.
WAIT_S: Final = 1.0


class Wanted(NamedTuple):
    """The partitions to be read; a later one has a greater number."""

    number: int
    partitions: frozenset[int]


class Reading(NamedTuple):
    """What the relay's thread does."""

    number: int  # of the Wanted that it has seen
    total: int  # partitions that the topic has; 0 while nobody knows
    partitions: frozenset[int]  # whose position is fixed: all that comes from now on is read


class Assignment:
    """Only `wanted` is read by another thread."""

    def __init__(
        self,
        rooms: Rooms,
        fleet: Fleet,
        reads_all: bool,
        linger_s: float = LINGER_S,
        wait_s: float = WAIT_S,
    ) -> None:
        self.wanted = Wanted(0, frozenset())
        self.reads_all = reads_all
        self._rooms = rooms
        self._fleet = fleet
        self._linger_s = linger_s
        self._wait_s = wait_s
        self._count = 0
        self._watched: Counter[int] = Counter()  # rooms of each partition
        self._since: dict[int, int] = {}  # what is wanted: from which number on
        self._unused_since: dict[int, float] = {}  # what is wanted, but not needed any more
        self._positioned: frozenset[int] = frozenset()
        self._news = asyncio.Event()
        rooms.reads = self
        fleet.before_read = self.positioned_all

    def opened(self, booking_id: UUID) -> None:
        """A room: the first viewer of a booking comes."""
        if self._count:
            partition = self._partition_of(booking_id)
            self._watched[partition] += 1
            self._want((partition,))

    def closed(self, booking_id: UUID) -> None:
        """A room: the last one has left."""
        if self._count:
            self._watched[self._partition_of(booking_id)] -= 1

    async def positioned(self, booking_id: UUID) -> None:
        """Until what is published of the booking is read, or it has taken too long."""
        await self._wait(lambda: self._partition_of(booking_id) in self._positioned)

    async def positioned_all(self) -> None:
        """As `positioned`, for whoever watches all bookings."""
        self._want(range(self._count))
        await self._wait(lambda: len(self._positioned) == self._count)

    async def _wait(self, is_positioned: Callable[[], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                while not self._count or not is_positioned():
                    await self._news.wait()

    def told(self, reading: Reading) -> None:
        """By the relay's thread."""
        if reading.total != self._count:
            self._begin(reading.total)
        since = self._since
        self._positioned = frozenset(
            each for each in reading.partitions if since.get(each, inf) <= reading.number
        )
        self._news.set()
        self._news = asyncio.Event()

    def _begin(self, count: int) -> None:
        """The topic has another number of partitions: every booking's may be another one."""
        self._count = count
        self._since.clear()
        self._unused_since.clear()
        rooms = self._rooms.all() if count else []
        self._watched = Counter(self._partition_of(room.booking_id) for room in rooms)
        needed = [each for each in range(count) if self._is_needed(each)]
        # Of processes without viewers each hears another one.
        self._hand_over(needed or random.sample(range(count), min(count, 1)))

    def _partition_of(self, booking_id: UUID) -> int:
        return shard_of(booking_id) % self._count

    def _is_needed(self, partition: int) -> bool:
        return self.reads_all or self._fleet.is_watched or self._watched[partition] > 0

    def _want(self, partitions: Iterable[int]) -> None:
        new = set(partitions)
        for each in new:
            self._unused_since.pop(each, None)
        new -= self._since.keys()
        if new:
            self._hand_over(new)

    def _hand_over(self, new: Iterable[int] = ()) -> None:
        number = self.wanted.number + 1
        self._since |= dict.fromkeys(new, number)
        self.wanted = Wanted(number, frozenset(self._since))

    async def run(self) -> None:
        """Let go of what is not needed any more, until cancelled."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._linger_s))
            self._let_go(time.monotonic())

    def _let_go(self, now: float) -> None:
        """One is always read: it tells how those do that store."""
        for each in self._since:
            if self._is_needed(each):
                self._unused_since.pop(each, None)
            else:
                self._unused_since.setdefault(each, now)
        over = [each for each, since in self._unused_since.items() if now - since >= self._linger_s]
        if len(over) == len(self._since):
            del over[:1]
        for each in over:
            del self._since[each], self._unused_since[each]
        if over:
            self._positioned -= set(over)
            self._hand_over()
