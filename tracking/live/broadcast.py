"""From committed rows to rooms. IOLoop thread."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from tracking.domain.changes import BookingChanges, Entry, Heard
from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.live import audience
from tracking.live.audience import Cohort, Subscriber
from tracking.live.rooms import Room, Rooms
from tracking.live.sender import Sender
from tracking.metrics import Metrics
from tracking.store.read.live import PAGE
from tracking.wire.messages import Message, location_update
from tracking.wire.protocol import late_waypoints

# A large room must not keep everybody else waiting for longer.
MAX_HOLD_S: Final = 0.010
FRESHNESS_S: Final = 1.0
# Rooms that are looked at before the loop may do something else.
ROOMS_PER_SLICE: Final = 500


class Broadcast:
    """Carries committed changes to the rooms of this process."""

    def __init__(self, rooms: Rooms, metrics: Metrics, send: Sender) -> None:
        self._rooms = rooms
        self._metrics = metrics
        self._send = send

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        """In the order of the entries; returns when every subscriber has been served."""
        turn = Turn()
        for booking in bookings:
            room = self._rooms.room(booking.booking_id)
            if room is not None:
                await self._publish_to(room, booking.entries, turn)

    async def _publish_to(self, room: Room, entries: Iterable[Entry], turn: "Turn") -> None:
        for (kind, late), run in groupby(entries, key=_kind_and_late):
            same: list[Any] = list(run)
            if kind is TrackChange:
                for change in same:
                    self._tell(room, change)
            elif kind is Heard:
                pass  # nothing to show
            elif late:
                await self._publish_late(room, same, turn)
            else:
                await self._publish_live(room, same, turn)

    async def _publish_live(
        self, room: Room, waypoints: list[StoredWaypoint], turn: "Turn"
    ) -> None:
        for waypoint in waypoints:
            room.moved(waypoint)
            await self._send_live(room, location_update(waypoint), turn)
            age = (datetime.now(UTC) - waypoint.received_at).total_seconds()
            self._metrics.delivery_seconds.observe(max(age, 0.0))

    async def _publish_late(
        self, room: Room, waypoints: list[StoredWaypoint], turn: "Turn"
    ) -> None:
        """They belong into the route: the marker never jumps back."""
        for first in range(0, len(waypoints), PAGE):
            part = waypoints[first : first + PAGE]
            for waypoint in part:
                room.moved(waypoint)
            message = late_waypoints(part)
            for subscribers in _parts(room.audience.everybody()):
                await turn.end()
                self._send_each(subscribers, message)

    def _tell(self, room: Room, change: TrackChange) -> None:
        room.changed(change)
        for subscriber in room.audience.everybody():
            subscriber.track_changed(change)

    async def _send_live(self, room: Room, message: Message, turn: "Turn") -> None:
        """Whoever leaves a cohort before it is served is found among the singles."""
        for cohort in room.audience.cohorts():
            await turn.end()
            self._send_to_cohort(cohort, message)
        for part in _parts(room.audience.singles()):
            await turn.end()
            room.audience.gather(self._send_each(part, message), message.seq)

    def _send_to_cohort(self, cohort: Cohort, message: Message) -> None:
        """Nothing may come between the descriptors and the sends to them."""
        if message.seq <= cohort.seq:
            return
        members, descriptors = cohort.members(), cohort.descriptors()
        short = self._send(descriptors, message.frame)
        cohort.served(message.seq)
        self._metrics.messages.inc(len(members))
        for index, count in short:
            members[index].sent(message, count)

    def _send_each(self, subscribers: list[Subscriber], message: Message) -> list[Subscriber]:
        """Those whose sockets got it, in whole or in part.

        Nothing may come between a subscriber's yes and the send to its socket.
        """
        takers, descriptors = [], []
        for subscriber in subscribers:
            descriptor = subscriber.take(message)
            if descriptor is not None:
                takers.append(subscriber)
                descriptors.append(descriptor)
        for index, count in self._send(descriptors, message.frame):
            takers[index].sent(message, count)
        self._metrics.messages.inc(len(takers))
        return takers


class Turn:
    """How long the loop has been held."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def end(self) -> None:
        """Let others run, if it was long."""
        if time.perf_counter() - self._since > MAX_HOLD_S:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


def _parts(subscribers: list[Subscriber]) -> Iterator[list[Subscriber]]:
    for first in range(0, len(subscribers), audience.COHORT):
        yield subscribers[first : first + audience.COHORT]


def _kind_and_late(entry: Entry) -> tuple[type[Entry], bool]:
    return type(entry), isinstance(entry, StoredWaypoint) and entry.late


async def watch_freshness(rooms: Rooms, delay_s: Callable[[], float]) -> None:
    """Look at every room once a second, until cancelled: silence is news, too."""
    while True:
        await asyncio.sleep(FRESHNESS_S)
        now, delay = datetime.now(UTC), delay_s()
        for count, room in enumerate(rooms.all(), 1):
            room.age(now, delay)
            if count % ROOMS_PER_SLICE == 0:
                await asyncio.sleep(0)
