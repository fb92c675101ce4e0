"""Notes who reads where somebody is, beside the answer: a look into a dict. IOLoop thread.

An app that asks every five seconds is one reader: of an hour there are two rows at the most, one as
soon as he is seen, one with what followed. Rows are written by a thread, some seconds later.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
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
# Some 500 bytes each. More readers than that in an hour, or in an outage, are not noted, but
# counted.
MOST_READERS: Final = 100_000

Write = Callable[[Sequence[Access]], Awaitable[None]]
Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Noted:
    """Of one reader: what is not written yet, and of which hour a row is."""

    __slots__ = ("count", "first_at", "last_at", "written_hour")

    def __init__(self) -> None:
        self.count = 0
        self.first_at = self.last_at = datetime.min.replace(tzinfo=UTC)
        self.written_hour: datetime | None = None


class AccessLog:
    """Of this process."""

    def __init__(self, metrics: AccessMetrics, *, is_kept: bool, clock: Clock = _now) -> None:
        self._metrics = metrics
        self._clock = clock
        self._is_kept = is_kept
        self._noted: dict[Reader, Noted] = {}
        self._fresh: dict[Reader, None] = {}  # of which this hour has no row
        self._ended: list[Access] = []  # rows that are to be written
        self._swept = datetime.min.replace(tzinfo=UTC)  # the hour up to which rows are complete

    def note(self, principal: Principal, booking_id: UUID | None, way: Way) -> None:
        """A token's bearer was let in."""
        self._note(Reader(booking_id, principal.user_id, principal.role, way))

    def note_link(self, share_id: UUID, booking_id: UUID, way: Way) -> None:
        """Somebody came through a share link."""
        self._note(Reader(booking_id, share_id, LINK, way))

    def _note(self, reader: Reader) -> None:
        if not self._is_kept:
            return
        now = self._clock()
        noted = self._noted.get(reader)
        if noted is None:
            if len(self._noted) + len(self._ended) >= MOST_READERS:
                self._metrics.lost.inc()
                return
            noted = self._noted[reader] = Noted()
        if noted.count and _hour(noted.first_at) != _hour(now):
            self._end(reader, noted)
        if not noted.count:
            noted.first_at = now
            if noted.written_hour != _hour(now):
                self._fresh[reader] = None
        noted.last_at, noted.count = now, noted.count + 1

    def _end(self, reader: Reader, noted: Noted) -> None:
        """What is noted goes into a row."""
        self._ended.append(Access(reader, noted.first_at, noted.last_at, noted.count))
        noted.count, noted.written_hour = 0, _hour(noted.first_at)

    def due(self, now: datetime) -> list[Access]:
        """Rows that are to be written now, at most BATCH; `written` forgets them."""
        for reader in self._fresh:
            noted = self._noted[reader]
            if noted.count:
                self._end(reader, noted)
        self._fresh.clear()
        if self._swept != _hour(now):
            self._sweep(_hour(now))
        return self._ended[:BATCH]

    def _sweep(self, hour: datetime) -> None:
        """Once an hour: what was noted in those before goes into rows, and memory follows those who
        read.
        """
        for reader, noted in [*self._noted.items()]:
            if noted.count and _hour(noted.first_at) != hour:
                self._end(reader, noted)
            if not noted.count and noted.written_hour != hour:
                del self._noted[reader]
        self._swept = hour

    def all(self) -> list[Access]:
        """Everything, whatever hour it is: the process ends."""
        for reader, noted in self._noted.items():
            if noted.count:
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
                    await write(rows)
                    self.written(len(rows))
                is_failing = False
            except DatabaseUnavailable as error:
                if not is_failing:
                    log.warning("the access log waits for the database: %s", error)
                is_failing = True

    async def close(self, write: Write) -> None:
        """Write what is left; what cannot be written is lost, and said."""
        rows = self.all()
        try:
            for first in range(0, len(rows), BATCH):
                part = rows[first : first + BATCH]
                await write(part)
                self.written(len(part))
        except DatabaseUnavailable:
            left = len(self._ended)
            self._metrics.lost.inc(left)
            log.warning("%d rows of the access log are lost: the database is away", left)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)
