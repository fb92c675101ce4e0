"""All active trips in memory, and what has changed since a version. IOLoop thread only.

There is no log: each row has the version of its last change, and each viewer a version up to which
it has everything. A slow viewer is one with an old version: it gets the newest state of each row.
"""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tracking.domain.changes import BookingChanges, Entry
from tracking.domain.tracks import ActiveTrip
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.fleet_trip import FleetTrip
from tracking.wire import fleet_protocol

# Whoever comes back within so long is told of the trips that ended meanwhile. A page has half a
# minute to leave, so nobody who is connected is behind by more.
ENDED_KEPT: Final = timedelta(minutes=10)
# A backlog may end many trips at once: some 10 MB.
MOST_ENDED: Final = 10_000
# Trips that are looked at before the loop may do something else: 1 to 2 ms.
SLICE: Final = 250


class FleetTable:
    """The rows of one epoch. Versions count changes; they mean nothing in another epoch."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.version = 0
        self.told = 0  # what viewers are told goes up to here
        # To be read again: their routes may have lost waypoints, the marker's among them; or they
        # are not known.
        self.outdated: set[UUID] = set()
        self.floor = 0  # below it trips that ended have been forgotten
        # By the number of the booking's id: a UUID is hashed in Python.
        self._trips: dict[int, FleetTrip] = {}
        self._frames: dict[int, bytes | None] = {}

    def __len__(self) -> int:
        """Trips, those that ended a while ago among them."""
        return len(self._trips)

    async def begin(self, trips: Iterable[ActiveTrip]) -> None:
        """As the database has them."""
        for count, read in enumerate(trips, 1):
            trip = self._trips[read.booking_id.int] = FleetTrip.of(read)
            self._changed(trip)
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def apply(self, booking: BookingChanges) -> None:
        """What was committed."""
        trip = self._trips.get(booking.booking_id.int)
        if trip is None:
            trip = FleetTrip.begun(booking)
            if trip is None:
                if any(map(_moves, booking.entries)):
                    self.outdated.add(booking.booking_id)  # another process may have begun it
                return
            self._trips[booking.booking_id.int] = trip
        if trip.apply(booking, datetime.now(UTC)):
            self._changed(trip)
        if trip.is_outdated:
            self.outdated.add(booking.booking_id)

    def read_again(self, trips: Iterable[ActiveTrip]) -> None:
        """Those of `outdated` that are active."""
        for read in trips:
            trip = self._trips.get(read.booking_id.int)
            if trip is None:
                trip = self._trips[read.booking_id.int] = FleetTrip.of(read)
            elif not trip.begin(read):
                continue
            self._changed(trip)

    def reconcile(self, versions: Mapping[UUID, int], since: int) -> None:
        """With the versions of all active trips in the table: what is missing here is read again.

        They were asked for at version `since` of the fleet; a trip that has changed meanwhile is
        newer than they are.
        """
        self.outdated |= {
            booking_id
            for booking_id, version in versions.items()
            if (trip := self._trips.get(booking_id.int)) is None or trip.is_behind(version)
        }
        now = datetime.now(UTC)
        for trip in self._trips.values():
            if trip.ended_at is None and trip.version <= since and trip.booking_id not in versions:
                trip.end(now)
                self._changed(trip)

    def _changed(self, trip: FleetTrip) -> None:
        self.version += 1
        trip.version = self.version

    async def look(self, now: datetime, delay_s: float) -> None:
        """Judge how fresh each row is, encode those that changed, forget what ended long ago."""
        ended = []
        for count, trip in enumerate([*self._trips.values()], 1):
            if trip.age(now, delay_s):
                self._changed(trip)
            trip.row()
            if trip.ended_at is not None:
                ended.append(trip)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        self._forget(ended, now - ENDED_KEPT)

    def _forget(self, ended: list[FleetTrip], before: datetime) -> None:
        ended.sort(key=lambda trip: trip.version)
        surplus = len(ended) - MOST_ENDED
        for number, trip in enumerate(ended):
            # It may have been taken up again meanwhile.
            if trip.ended_at is not None and (number < surplus or trip.ended_at < before):
                del self._trips[trip.booking_id.int]
                self.floor = max(self.floor, trip.version)

    def settle(self) -> None:
        """From now on viewers are told of everything up to here."""
        if self.told != self.version:
            self.told = self.version
            self._frames.clear()

    def reaches(self, epoch: str | None, version: int) -> bool:
        """Whether all that changed since then is known."""
        return epoch == self.epoch and self.floor <= version <= self.told

    def changes(self, since: int) -> bytes | None:
        """The rows that changed since then, encoded once for all who ask; None if none did."""
        if since not in self._frames:
            changed = [t for t in self._trips.values() if since < t.version <= self.told]
            self._frames[since] = self._frame(changed) if changed else None
        return self._frames[since]

    def no_changes(self) -> bytes:
        """Nothing has changed: also an answer."""
        return self._frame([])

    def _frame(self, trips: list[FleetTrip]) -> bytes:
        removed = [str(trip.booking_id) for trip in trips if trip.ended_at is not None]
        return fleet_protocol.changes(self.told, [trip.row() for trip in trips], removed)

    def snapshot(self) -> Iterator[bytes]:
        """What is active at this moment, in pages. A row that changes before its page is left to
        the changes that follow: so nothing is sent twice.
        """
        through = self.told
        trips = [trip for trip in self._trips.values() if trip.ended_at is None]
        for first in range(0, max(len(trips), 1), fleet_protocol.PAGE):
            page = trips[first : first + fleet_protocol.PAGE]
            rows = [trip.row() for trip in page if trip.version <= through]
            more = first + fleet_protocol.PAGE < len(trips)
            yield fleet_protocol.snapshot(rows, more=more)


def _moves(entry: Entry) -> bool:
    return isinstance(entry, StoredWaypoint) and not entry.late
