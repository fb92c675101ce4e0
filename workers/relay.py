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

# A large room must not keep everybody else waiting for longer.
MAX_HOLD_S: Final = 0.010
# How many sends pass before the clock is asked; one takes some five microseconds.
SENDS_PER_LOOK: Final = 64


class Relay(Protocol):
    """Carries what was stored to those who watch."""

    async def publish(self, stored: Stored) -> None:
        """In the order of seq for each booking; returns when every subscriber has been served."""


class LocalRelay:
    """To the rooms of this process."""

    def __init__(self, rooms: Rooms, metrics: Metrics) -> None:
        self._rooms = rooms
        self._metrics = metrics

    async def publish(self, stored: Stored) -> None:
        for change in stored.changes:
            self._tell(change)
        for waypoint in stored.waypoints:
            # A late one belongs into the route: the marker never jumps back.
            if waypoint.late or (room := self._rooms.room(waypoint.booking_id)) is None:
                continue
            await self._send(list(room), location_update(waypoint))
            age = (datetime.now(UTC) - waypoint.received_at).total_seconds()
            self._metrics.delivery_seconds.observe(max(age, 0.0))

    def _tell(self, change: TrackChange) -> None:
        for subscriber in list(self._rooms.room(change.booking_id) or ()):
            subscriber.track_changed(change)

    async def _send(self, subscribers: list[Subscriber], message: Message) -> None:
        since = time.perf_counter()
        for count, subscriber in enumerate(subscribers, 1):
            subscriber.deliver(message)
            if count % SENDS_PER_LOOK == 0 and time.perf_counter() - since > MAX_HOLD_S:
                await asyncio.sleep(0)
                since = time.perf_counter()
