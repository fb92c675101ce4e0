"""From committed rows to rooms. IOLoop thread."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from tracking.domain.changes import BookingChanges, Entry
from tracking.domain.legs import Leg
from tracking.domain.shares import NEVER
from tracking.domain.tracks import LiveState, TrackChange, change_between
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.audience import Audience, TimeSlice
from tracking.live.fleet import Fleet
from tracking.live.notices import tell_legs
from tracking.live.room import Room
from tracking.live.rooms import Rooms
from tracking.live.sender import Sender
from tracking.metrics import Metrics
from tracking.wire import close_codes
from tracking.wire.messages import location_update
from tracking.wire.protocol import late_waypoints
from tracking.wire.shared import shared_location_update

log = logging.getLogger("tracking.broadcast")

# Late waypoints in one message: some 130 kB as text, as a page of a backfill.
LATE_WAYPOINTS: Final = 1_000


class Broadcast:
    """Carries committed changes to the rooms of this process, and to its fleet."""

    def __init__(
        self, rooms: Rooms, metrics: Metrics, send: Sender, fleet: Fleet | None = None
    ) -> None:
        self._rooms = rooms
        self._fleet = fleet
        self._metrics = metrics
        self._send = send
        self._turn = asyncio.Lock()  # one who publishes at a time: nobody overtakes

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        """In the order of the entries; returns when every subscriber has been served.

        Never raises: what goes wrong in one room is that room's, and is logged and counted.
        """
        async with self._turn:
            await self._publish(bookings)

    async def _publish(self, bookings: Sequence[BookingChanges]) -> None:
        time_slice = TimeSlice()
        fleet = None if self._fleet is None or not self._fleet.is_watched else self._fleet
        for booking in bookings:
            if fleet is not None:
                fleet.publish(booking)
                await time_slice.give_way()
            room = self._rooms.room(booking.booking_id)
            if room is not None:
                for each in self._taken(room, booking):
                    await self._publish_to(room, each, time_slice)
                    self._tell_legs(room, each.legs)

    def _taken(self, room: Room, booking: BookingChanges) -> list[BookingChanges]:
        try:
            return room.take(booking)
        except Exception:
            log.exception("a room cannot be told of a change")
            self._metrics.live_errors.labels("room").inc()
            return []

    async def renew(self, room: Room, state: LiveState) -> None:
        """The room has missed changes, and this is its state from the table: everybody is told.

        Who speaks `tracking.v1` catches up, as if it had been away. Never raises.
        """
        async with self._turn:
            try:
                await self._renew(room, state)
            except Exception:
                log.exception("a room that has missed changes was not renewed")
                self._metrics.live_errors.labels("room").inc()

    async def _renew(self, room: Room, state: LiveState) -> None:
        old, known = room.state, room.continuity.version
        if old is None or known is None or (old.epoch == state.epoch and state.version < known):
            return  # it is being read, or what was missed has come
        following = room.continuity.begin(state.epoch, state.version)
        room.renew(state)
        is_another = old.epoch not in (None, state.epoch)
        for subscriber in room.everybody():
            try:
                if is_another:
                    subscriber.end(close_codes.GOING_AWAY)  # it comes back for the whole route
                else:
                    subscriber.fall_behind()
            except Exception as error:
                subscriber.fail(error)
        if state.flagged != old.flagged:
            room.tell_flagged()
        change = change_between(old, state)
        if change is not None and not room.is_over:
            room.tell(change)
        time_slice, last = TimeSlice(), state.last
        if last is not None and last.seq == state.head_seq > old.head_seq:
            await self._publish_position(room, last, time_slice)
        if change is not None and room.is_over:
            room.tell(change)
        if old.legs != state.legs:
            self._tell_legs(room, state.legs)
        for booking in following:
            await self._publish_to(room, booking, time_slice)
            self._tell_legs(room, booking.legs)

    def _tell_legs(self, room: Room, legs: tuple[Leg, ...] | None) -> None:
        if legs is None:
            return
        try:
            tell_legs(room, legs)
        except Exception:
            log.exception("a room was not told of an arrival")
            self._metrics.live_errors.labels("room").inc()

    async def _publish_to(self, room: Room, booking: BookingChanges, time_slice: TimeSlice) -> None:
        if booking.flagged is not None:
            room.flagged(booking.flagged)
            room.tell_flagged()
        for is_late, run in groupby(booking.entries, key=_is_late):
            listed = list(run)
            try:
                if is_late:
                    await self._publish_late(room, listed, time_slice)
                else:
                    await self._publish_in_order(room, listed, time_slice)
            except Exception:
                log.exception("a room was not told of %d changes", len(listed))
                self._metrics.live_errors.labels("room").inc()

    async def _publish_in_order(
        self, room: Room, entries: list[Entry], time_slice: TimeSlice
    ) -> None:
        for entry in entries:
            if isinstance(entry, StoredWaypoint):
                room.moved(entry)
                await self._publish_position(room, entry, time_slice)
                age = (datetime.now(UTC) - entry.received_at).total_seconds()
                self._metrics.delivery_seconds.observe(max(age, 0.0))
            elif isinstance(entry, TrackChange):
                room.changed(entry)
                room.tell(entry)
            else:
                room.heard(entry)

    async def _publish_position(
        self, room: Room, waypoint: StoredWaypoint, time_slice: TimeSlice
    ) -> None:
        """Encoded once for all with a token, and once more for all share links."""
        sent = 0
        if len(room.audience):
            position = location_update(waypoint)
            sent += await room.audience.send(position, self._send, time_slice)
        shown, hidden = _by_sight(room, waypoint)
        if shown:
            position = shared_location_update(waypoint)
            for audience in shown:
                sent += await audience.send(position, self._send, time_slice)
        for audience in hidden:
            await audience.send_late(late_waypoints([waypoint], NEVER), time_slice)
        self._metrics.messages.inc(sent)

    async def _publish_late(self, room: Room, entries: list[Entry], time_slice: TimeSlice) -> None:
        """They belong into the route: the marker never jumps back."""
        waypoints = [each for each in entries if isinstance(each, StoredWaypoint)]
        for first in range(0, len(waypoints), LATE_WAYPOINTS):
            part = waypoints[first : first + LATE_WAYPOINTS]
            for waypoint in part:
                room.moved(waypoint)
            for view, audience in room.audiences():
                if len(audience) and room.state is not None and not view.is_waiting(room.state):
                    message = late_waypoints(part, view.since(room.state))
                    await audience.send_late(message, time_slice)


def _by_sight(room: Room, waypoint: StoredWaypoint) -> tuple[list[Audience], list[Audience]]:
    """Share links' audiences that see a position, and those that are only told of its number.

    Who waits for the pickup is in neither.
    """
    shown: list[Audience] = []
    hidden: list[Audience] = []
    for view, audience in room.shared.items():
        if len(audience) and room.state is not None and not view.is_waiting(room.state):
            (shown if view.shows(room.state, waypoint) else hidden).append(audience)
    return shown, hidden


def _is_late(entry: Entry) -> bool:
    return isinstance(entry, StoredWaypoint) and entry.late
