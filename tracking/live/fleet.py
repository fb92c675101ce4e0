"""Who watches all active trips at once. IOLoop thread only, hence no lock.

Nothing is kept while nobody does. `publish` is the only way in, whichever process has stored what
changed; `enter` begins to collect before it reads the database.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from tracking.domain.changes import BookingChanges
from tracking.domain.tracks import ActiveTrip
from tracking.errors import Overloaded, TrackingError
from tracking.live.fleet_subscriber import FleetSubscriber
from tracking.live.fleet_table import SLICE, FleetTable
from tracking.live.recipient import Recipient
from tracking.metrics import Metrics

log = logging.getLogger("tracking.fleet")

# The active trips of these bookings; of None, all.
Read = Callable[[Collection[UUID] | None], Awaitable[Sequence[ActiveTrip]]]

# Changes are sent so often at the most.
TICK_S: Final = 1.0
# A client that lost its link is back within so long (docs/protocol.md), and need not begin anew.
LINGER_S: Final = 60.0
# Bookings' changes that are held while the database is read: seconds of the fastest backlog.
MOST_UNSEEN: Final = 50_000


class Fleet:
    """The table of all active trips, from the first who enters until the last has left."""

    def __init__(self, metrics: Metrics, linger_s: float = LINGER_S) -> None:
        self.table: FleetTable | None = None
        self._metrics = metrics
        self._linger_s = linger_s
        self._subscribers: set[FleetSubscriber] = set()
        self._entering = 0
        self._left_at = 0.0  # time.monotonic() when nobody was here any more
        self._reading: asyncio.Future[FleetTable] | None = None
        self._unseen: deque[BookingChanges] = deque()
        self._read_trips: Read | None = None
        self._again: asyncio.Task[None] | None = None
        # Until whatever other processes publish comes. Bounded.
        self.before_read: Callable[[], Awaitable[None]] = _at_once

    def __len__(self) -> int:
        return len(self._subscribers)

    @property
    def trips(self) -> int:
        """Kept in memory."""
        return 0 if self.table is None else len(self.table)

    @property
    def is_watched(self) -> bool:
        """Whether `publish` does anything."""
        return self.table is not None or self._reading is not None

    async def enter(self, read: Read) -> None:
        """Have the table, read once for all who enter together. Raises what `read` raises.

        Whoever was let in calls `join` or `withdraw`.
        """
        self._entering += 1
        self._read_trips = read
        try:
            if self.table is None:
                if self._reading is None:
                    self._reading = asyncio.ensure_future(self._read(read))
                    self._reading.add_done_callback(_looked_at)
                await asyncio.shield(self._reading)
        except BaseException:
            self.withdraw()
            raise

    async def _read(self, read: Read) -> FleetTable:
        """What is published from now on is held, and applied to what was read."""
        table = FleetTable()
        try:
            await self.before_read()
            await table.begin(await read(None))
            await table.look(datetime.now(UTC), 0.0)
            while self._unseen:
                if len(self._unseen) > MOST_UNSEEN:
                    raise Overloaded("too much has happened while the trips were read")
                for _ in range(min(len(self._unseen), SLICE)):
                    table.apply(self._unseen.popleft())
                await asyncio.sleep(0)
            self.table = table  # in one step with the end of reading
        finally:
            self._reading = None
            self._unseen.clear()
        return table

    async def _read_again(self, table: FleetTable) -> None:
        """Where the markers of trips stand whose routes have changed; if not now, later."""
        assert self._read_trips is not None
        asked, table.outdated = table.outdated, set()
        try:
            table.read_again(await self._read_trips(asked))
        except TrackingError:
            table.outdated |= asked
        finally:
            self._again = None

    def withdraw(self) -> None:
        """Entered, but will not join."""
        self._entering -= 1
        self._left_at = time.monotonic()

    def join(self, subscriber: FleetSubscriber) -> None:
        """After `enter`, once."""
        self._entering -= 1
        self._subscribers.add(subscriber)

    def left(self, subscriber: FleetSubscriber) -> None:
        """Idempotent."""
        self._subscribers.discard(subscriber)
        self._left_at = time.monotonic()

    def everybody(self) -> Iterator[Recipient]:
        """At this moment, safe against leaving meanwhile."""
        yield from list(self._subscribers)

    def publish(self, booking: BookingChanges) -> None:
        """What was committed, of any booking, in the order in which it was. Never raises."""
        if self._reading is not None:
            if len(self._unseen) <= MOST_UNSEEN:  # above it, reading is given up
                self._unseen.append(booking)
        elif self.table is not None:
            try:
                self.table.apply(booking)
            except Exception:
                log.exception("the fleet was not told of a change")
                self._metrics.live_errors.labels("fleet").inc()

    async def tick(self, now: datetime, delay_s: float) -> None:
        """Tell everybody what has changed; forget everything when nobody has been here for long."""
        table = self.table
        if table is None:
            return
        is_empty = not self._subscribers and not self._entering
        if is_empty and time.monotonic() - self._left_at >= self._linger_s:
            self.table = None
            return
        if table.outdated and self._again is None:
            self._again = asyncio.create_task(self._read_again(table))
        await table.look(now, delay_s)
        table.settle()
        for subscriber in list(self._subscribers):
            try:
                subscriber.serve(table)
            except Exception as error:
                subscriber.fail(error)
            await asyncio.sleep(0)


async def _at_once() -> None:
    """Of a process that reads all there is, or stores it itself."""


def _looked_at(reading: "asyncio.Future[FleetTable]") -> None:
    """Whoever asked may be gone: an error that nobody gets is no news."""
    if not reading.cancelled():
        reading.exception()


async def tell_fleet(fleet: Fleet, metrics: Metrics, delay_s: Callable[[], float]) -> None:
    """Once a second, until cancelled. What fails is logged once, until it works again."""
    is_failing = False
    while True:
        await asyncio.sleep(TICK_S)
        try:
            await fleet.tick(datetime.now(UTC), delay_s())
            is_failing = False
        except Exception:
            metrics.live_errors.labels("fleet").inc()
            if not is_failing:
                is_failing = True
                log.exception("the fleet cannot be told")
