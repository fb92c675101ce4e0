"""From committed rows to rooms. IOLoop thread."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Protocol

from tracking.messages import Message, location_update
from tracking.metrics import Metrics
from tracking.rooms import Rooms, Subscriber
from tracking.store.ingest import Stored
from tracking.store.rows import TrackChange
from workers.sends import Send

# A large room must not keep everybody else waiting for longer.
MAX_HOLD_S: Final = 0.010
# Sends between two looks at the clock; one takes some five microseconds.
SENDS_PER_LOOK: Final = 1024


class Relay(Protocol):
    """Carries what was stored to those who watch."""

    async def publish(self, stored: Stored) -> None:
        """In the order of seq for each booking; returns when every subscriber has been served."""


class LocalRelay:
    """To the rooms of this process."""

    def __init__(self, rooms: Rooms, metrics: Metrics, send: Send) -> None:
        self._rooms = rooms
        self._metrics = metrics
        self._send = send

    async def publish(self, stored: Stored) -> None:
        for change in stored.changes:
            self._tell(change)
        for waypoint in stored.waypoints:
            # A late one belongs into the route: the marker never jumps back.
            if waypoint.late or (room := self._rooms.room(waypoint.booking_id)) is None:
                continue
            await self._serve(list(room), location_update(waypoint))
            age = (datetime.now(UTC) - waypoint.received_at).total_seconds()
            self._metrics.delivery_seconds.observe(max(age, 0.0))

    def _tell(self, change: TrackChange) -> None:
        for subscriber in list(self._rooms.room(change.booking_id) or ()):
            subscriber.track_changed(change)

    async def _serve(self, subscribers: list[Subscriber], message: Message) -> None:
        since = time.perf_counter()
        for first in range(0, len(subscribers), SENDS_PER_LOOK):
            if first and time.perf_counter() - since > MAX_HOLD_S:
                await asyncio.sleep(0)
                since = time.perf_counter()
            self._send_to(subscribers[first : first + SENDS_PER_LOOK], message)

    def _send_to(self, subscribers: list[Subscriber], message: Message) -> None:
        """Nothing can come between a subscriber's yes and the send to its socket."""
        takers, descriptors = [], []
        for subscriber in subscribers:
            descriptor = subscriber.take(message)
            if descriptor is not None:
                takers.append(subscriber)
                descriptors.append(descriptor)
        for index, count in self._send(descriptors, message.frame):
            takers[index].sent(message, count)
        self._metrics.messages.inc(len(takers))
