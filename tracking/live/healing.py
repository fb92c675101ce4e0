"""Rooms that have missed a change are brought up to date from the table. IOLoop thread.

A gap is noticed by what comes behind it (`continuity.py`); where nothing comes, the versions of the
silent rooms are asked for, of all of them in one statement. So a relay that loses something, begins
anew or stands still, and a process that was paused, need nothing of their own.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from uuid import UUID

from tracking.domain.tracks import LiveState
from tracking.errors import TrackingError
from tracking.live.broadcast import Broadcast
from tracking.live.fleet import Fleet
from tracking.live.room import Room
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.wire import close_codes

log = logging.getLogger("tracking.healing")

# Two ingest processes may overtake each other: what seems to be missing is given so long.
GAP_S: Final = 0.05
# While the database is away, or has not got what was missed.
RETRY_S: Final = 1.0
# Rooms that are read at once: a process that was paused has missed something in all of them.
READS: Final = 8
LOOK_S: Final = 1.0
# The versions of so many rooms in one statement.
ASKED: Final = 1_000
# All active trips, for those who watch them all.
FLEET_S: Final = 10.0

ReadState = Callable[[UUID], Awaitable[LiveState | None]]
# The versions of these bookings' tracks; of None, of all active ones.
ReadVersions = Callable[[Collection[UUID] | None], Awaitable[dict[UUID, int]]]


class Healing:
    """Heals what `rooms` reports, from `begin` on; `watch` looks for what nobody reports."""

    def __init__(
        self,
        rooms: Rooms,
        fleet: Fleet,
        broadcast: Broadcast,
        read_state: ReadState,
        read_versions: ReadVersions,
        metrics: Metrics,
    ) -> None:
        self._rooms = rooms
        self._fleet = fleet
        self._broadcast = broadcast
        self._read_state = read_state
        self._read_versions = read_versions
        self._metrics = metrics
        self._reads = asyncio.Semaphore(READS)
        self._under_way: dict[Room, asyncio.Task[None]] = {}
        self._fleet_at = 0.0
        rooms.on_gap = self._gap

    def _gap(self, room: Room) -> None:
        """Something came whose predecessor has not come, yet. Called for each that comes so."""
        self._begin(room, GAP_S)

    def _begin(self, room: Room, after_s: float) -> None:
        if room not in self._under_way:
            self._metrics.gaps.inc()
            self._under_way[room] = asyncio.create_task(self._heal(room, after_s))

    async def _heal(self, room: Room, after_s: float) -> None:
        """As long as something is missing, and somebody is here or about to be."""
        try:
            await asyncio.sleep(after_s)
            while room.continuity.is_broken and self._rooms.room(room.booking_id) is room:
                if not await self._renew(room) or room.continuity.is_broken:
                    await asyncio.sleep(RETRY_S)
        finally:
            # In one step with the last look: a gap that opens now begins another one.
            self._under_way.pop(room, None)

    async def _renew(self, room: Room) -> bool:
        """False if it has to be tried again."""
        try:
            async with self._reads:
                state = await self._read_state(room.booking_id)
            if state is None:
                for subscriber in room.everybody():
                    subscriber.end(close_codes.NOT_FOUND)
                return True
            await self._broadcast.renew(room, state)
        except TrackingError:
            return False
        except Exception:
            log.exception("a room that has missed changes cannot be read")
            self._metrics.live_errors.labels("healing").inc()
            return False
        self._metrics.healed.inc()
        return True

    async def watch(self) -> None:
        """Ask for what nobody would report, until cancelled: the last change may be lost, too."""
        failing = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._ask_for_silent(time.monotonic())
                await self._ask_for_fleet(time.monotonic())
                failing = False
            except TrackingError:
                pass  # the database is away: asked again with the next look
            except Exception:
                if not failing:  # a bug of ours: once, not every second
                    log.exception("silent rooms are not looked at")
                failing = True
                self._metrics.live_errors.labels("healing").inc()

    async def _ask_for_silent(self, now: float) -> None:
        silent = [room for room in self._rooms.all() if room.silence.is_due(now)]
        for first in range(0, len(silent), ASKED):
            part = silent[first : first + ASKED]
            versions = await self._read_versions([room.booking_id for room in part])
            for room in part:
                room.silence.asked(now)
                if room.continuity.is_behind(versions.get(room.booking_id, 0)):
                    self._begin(room, GAP_S)  # it may be on its way

    async def _ask_for_fleet(self, now: float) -> None:
        table = self._fleet.table
        if table is None or now < self._fleet_at:
            return
        self._fleet_at = now + FLEET_S
        before = table.version
        table.reconcile(await self._read_versions(None), before)
