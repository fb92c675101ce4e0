"""Notes who reads where somebody is, beside the answer: a look into a dict. IOLoop thread.

An app that asks every five seconds is one reader: of an hour there are two rows at the most, one as
soon as he is seen, one with what followed. Rows are written by a thread, some seconds later.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final
from uuid import UUID

from tracking.access_metrics import AccessMetrics
from tracking.domain.access import Principal
from tracking.domain.accesses import LINK, Access, Reader, Way
from tracking.errors import DatabaseUnavailable

log = logging.getLogger("tracking.requests")

WRITE_S: Final = 5.0
# Rows of one statement.
BATCH: Final = 1_000
# Slices of so many readers at a time, which others on the loop do not feel: 10 ms in all.
LOOKS: Final = 10
# Some 500 bytes each. More readers than that in an hour, or in an outage, are not noted, but
# counted.
MOST_READERS: Final = 100_000

Write = Callable[[Sequence[Access]], Awaitable[None]]
Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Noted:
    """Of one reader within an hour: what is not written yet."""

    __slots__ = ("count", "first_at", "last_at")

    def __init__(self) -> None:
        self.count = 0
        self.first_at = self.last_at = datetime.min.replace(tzinfo=UTC)


class AccessLog:
    """Of this process."""

    def __init__(self, metrics: AccessMetrics, *, is_kept: bool, clock: Clock = _now) -> None:
        self._metrics = metrics
        self._clock = clock
        self._is_kept = is_kept
        self._hour = datetime.min.replace(tzinfo=UTC)
        self._noted: dict[Reader, Noted] = {}  # who has read in this hour
        # In those before: they go into rows a slice at a time.
        self._past: deque[tuple[Reader, Noted]] = deque()
        self._fresh: dict[Reader, None] = {}  # of whom this hour has no row
        self._ended: list[Access] = []  # rows that are to be written
        self._writing: asyncio.Task[None] | None = None

    def note(self, principal: Principal, booking_id: UUID | None, way: Way) -> None:
        """A token's bearer was let in."""
        self._note(Reader(booking_id, principal.user_id, principal.role, way))

    def note_watch(self, principal: Principal, since: datetime) -> datetime:
        """All active trips were before his eyes since then; until when this is noted: now."""
        now = self._clock()
        if self._is_kept:
            if self._is_full():
                self._metrics.lost.inc()
            else:
                reader = Reader(None, principal.user_id, principal.role, "fleet")
                self._ended.append(Access(reader, since, now, 1))
        return now

    def note_link(self, share_id: UUID, booking_id: UUID, way: Way) -> None:
        """Somebody came through a share link."""
        self._note(Reader(booking_id, share_id, LINK, way))

    def _note(self, reader: Reader) -> None:
        if not self._is_kept:
            return
        now = self._clock()
        self._turn(now)
        noted = self._noted.get(reader)
        if noted is None:
            if self._is_full():
                self._metrics.lost.inc()
                return
            noted = self._noted[reader] = Noted()
            self._fresh[reader] = None
        if not noted.count:
            noted.first_at = now
        noted.last_at, noted.count = now, noted.count + 1

    def _is_full(self) -> bool:
        return len(self._noted) + len(self._past) + len(self._ended) >= MOST_READERS

    def _turn(self, now: datetime) -> None:
        """In a new hour everybody is new: memory follows those who read."""
        hour = _hour(now)
        if hour == self._hour:
            return
        self._past.extend(self._noted.items())
        self._hour, self._noted = hour, {}
        self._fresh.clear()

    def _end(self, reader: Reader, noted: Noted) -> None:
        """What is noted, if anything, goes into a row."""
        if noted.count:
            self._ended.append(Access(reader, noted.first_at, noted.last_at, noted.count))
            noted.count = 0

    def due(self, now: datetime) -> list[Access]:
        """Rows that are to be written now, at most BATCH; `written` forgets them."""
        self._turn(now)
        for _ in range(LOOKS):
            if self._ended:
                break
            self._look()
        return self._ended[:BATCH]

    def _look(self) -> None:
        """At BATCH readers: who had nothing to write is forgotten."""
        for _ in range(min(len(self._past), BATCH)):
            self._end(*self._past.popleft())
        for reader in [*islice(self._fresh, BATCH - len(self._ended))]:
            del self._fresh[reader]
            self._end(reader, self._noted[reader])

    def all(self) -> list[Access]:
        """Everything, whatever hour it is: the process ends."""
        for reader, noted in (*self._past, *self._noted.items()):
            self._end(reader, noted)
        return self._ended[:]

    def written(self, count: int) -> None:
        del self._ended[:count]
        self._metrics.logged.inc(count)

    async def keep_writing(self, write: Write) -> None:
        """Until cancelled. What cannot be written waits, up to MOST_READERS."""
        is_failing = False
        while True:
            await asyncio.sleep(WRITE_S)
            try:
                while rows := self.due(self._clock()):
                    # To its end, whoever stops us: who writes now, would write it twice.
                    self._writing = asyncio.create_task(self._write(write, rows))
                    await asyncio.shield(self._writing)
                is_failing = False
            except DatabaseUnavailable as error:
                if not is_failing:
                    log.warning("the access log waits for the database: %s", error)
                is_failing = True

    async def _write(self, write: Write, rows: Sequence[Access]) -> None:
        await write(rows)
        self.written(len(rows))

    async def close(self, write: Write) -> None:
        """Write what is left; what cannot be written is lost, and said."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        rows = self.all()
        try:
            for first in range(0, len(rows), BATCH):
                await self._write(write, rows[first : first + BATCH])
        except DatabaseUnavailable:
            left = len(self._ended)
            self._metrics.lost.inc(left)
            log.warning("%d rows of the access log are lost: the database is away", left)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
