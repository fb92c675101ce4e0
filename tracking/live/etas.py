"""When watched runners will arrive: told when it has changed enough. IOLoop thread only."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from tracking.domain.eta import Eta, History, NoEta, is_news
from tracking.domain.legs import Leg
from tracking.domain.routed import Answer
from tracking.domain.tracks import LiveState, TrackView
from tracking.domain.trip_eta import Ends, Samples, trip_eta
from tracking.domain.waypoints import StoredWaypoint
from tracking.errors import TrackingError
from tracking.live.asking import Asking
from tracking.live.notices import tell_eta
from tracking.live.room import Room
from tracking.live.rooms import Rooms

log = logging.getLogger("tracking.etas")

LOOK_S: Final = 1.0
# Trips are settled within seconds of their end; what they add changes little.
HISTORY_S: Final = 60.0
# Where watched trips go may be said late, or corrected.
ENDS_S: Final = 10.0
ROOMS_PER_SLICE: Final = 200

ReadSamples = Callable[[Samples], Awaitable[Samples]]
ReadEnds = Callable[[Collection[UUID]], Awaitable[dict[UUID, Ends]]]


class Etas:
    """What is known of finished ways, where the watched trips go, and what a router says."""

    def __init__(
        self,
        rooms: Rooms,
        read_samples: ReadSamples,
        read_ends: ReadEnds,
        asking: Asking | None = None,
    ) -> None:
        """`asking`: of a router; None: there is none."""
        self._rooms = rooms
        self._asking = asking
        self._read_samples, self._read_ends = read_samples, read_ends
        self._samples = Samples()
        self._ends: dict[UUID, Ends] = {}
        self._samples_at = self._ends_at = 0.0  # time.monotonic() of the next reading

    @property
    def history(self) -> History:
        return self._samples.history

    async def watch(self) -> None:
        """Until cancelled. Without the database what was read before is used on."""
        failing = False
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    await self.look(time.monotonic())
                    failing = False
                except Exception:
                    if not failing:  # a bug of ours: once, not every second
                        log.exception("ETAs are not told")
                    failing = True
        finally:
            if self._asking is not None:
                self._asking.stop()

    async def look(self, now: float) -> None:
        """Read what is due, then tell the rooms whose ETA is news: also that there is none any more
        of a runner who is not heard, while the database is away.
        """
        with suppress(TrackingError):
            if now >= self._samples_at:
                self._samples = await self._read_samples(self._samples)
                self._samples_at = now + HISTORY_S
            await self._look_for_ends(now)
            if self._asking is not None:
                await self._asking.keep()
        if self._asking is not None:
            await self._asking.look(now, self._ends)
        for count, room in enumerate(self._rooms.all(), 1):
            self._tell(room)
            if count % ROOMS_PER_SLICE == 0:
                await asyncio.sleep(0)

    async def _look_for_ends(self, now: float) -> None:
        active = {room.booking_id for room in self._rooms.all() if _is_active(room.state)}
        is_due = now >= self._ends_at
        wanted = active if is_due else active - self._ends.keys()
        if wanted:
            found = await self._read_ends(wanted)
            kept = {id_: ends for id_, ends in self._ends.items() if id_ in active}
            self._ends = kept | {id_: found.get(id_, Ends()) for id_ in wanted}
        if is_due:
            self._ends_at = now + ENDS_S

    def _tell(self, room: Room) -> None:
        state = room.state
        if state is None or state.track_id is None:
            return
        if room.booking_id not in self._ends and _is_active(state):
            return
        ends = self._ends.get(room.booking_id, Ends())
        is_live = room.freshness is not None and room.freshness.state == "live"
        eta = trip_eta(
            self.history, status=state.status, phase=state.phase, ends=ends,
            legs=state.legs, last=state.last, is_live=is_live, answer=self._answer(room.booking_id),
        )  # fmt: skip
        if not isinstance(room.eta, Eta) and isinstance(eta, NoEta):
            room.eta = eta  # for who joins; nobody was told anything else
        elif is_news(room.eta, eta, datetime.now(UTC).timestamp()):
            tell_eta(room, eta)

    def of(
        self, track: TrackView, legs: Sequence[Leg], last: StoredWaypoint | None, *, is_live: bool
    ) -> Eta | NoEta:
        """For a request: what is told of the trip as the table has it."""
        return trip_eta(
            self.history, status=track.status, phase=track.phase,
            ends=Ends(
                _place(track.pickup_lng, track.pickup_lat),
                _place(track.dropoff_lng, track.dropoff_lat),
            ),
            legs=legs, last=last, is_live=is_live, answer=self._answer(track.booking_id),
        )  # fmt: skip

    def _answer(self, booking_id: UUID) -> Answer | None:
        return None if self._asking is None else self._asking.answer(booking_id)


def _is_active(state: LiveState | None) -> bool:
    return state is not None and state.status == "active"


def _place(longitude: float | None, latitude: float | None) -> tuple[float, float] | None:
    return None if longitude is None or latitude is None else (longitude, latitude)
