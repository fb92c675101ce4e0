"""Which watched ways a router is asked of, and what it said. IOLoop thread only."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from tracking.domain.arrivals import Way
from tracking.domain.eta import band_of, distance_m, phase_of
from tracking.domain.hops import Recorded, is_within
from tracking.domain.legs import current
from tracking.domain.routed import Answer
from tracking.domain.trip_eta import Ends, Place, place_of, way_now
from tracking.errors import TrackingError
from tracking.live.room import Room
from tracking.live.rooms import Rooms

log = logging.getLogger("tracking.etas")

AGAIN_M: Final = 200.0
AGAIN_S: Final = 60.0
# At 10 ms for an answer 800 a second: a router that is slower gets no more from us.
AT_ONCE: Final = 8
# Some 15 µs each.
ROOMS_PER_SLICE: Final = 200
# Of an hour without the database, of some hundred trips; without them there are fewer samples.
MOST_UNKEPT: Final = 2_000

# Seconds from place to place; None if the router says nothing.
AskRouter = Callable[[Place, Place], Awaitable[float | None]]
# By track.
Keep = Callable[[Sequence[tuple[UUID, Answer]]], Awaitable[None]]


class _Asked(Struct, frozen=True):
    way: Way
    start: Recorded
    at: float  # time.monotonic()


class _Known(Struct):
    """Of one booking that somebody watches."""

    asked: _Asked | None = None
    answer: Answer | None = None
    kept: set[tuple[str, int]] = set()  # phases and bands whose first answer is in the table


class Asking:
    """Memory follows the viewers: who is not watched is asked for no more, and forgotten."""

    def __init__(self, rooms: Rooms, ask_router: AskRouter, keep: Keep) -> None:
        self._rooms = rooms
        self._ask_router, self._keep = ask_router, keep
        self._known: dict[UUID, _Known] = {}
        self._ends: Mapping[UUID, Ends] = {}
        self._now = 0.0
        self._due: deque[UUID] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unkept: deque[tuple[UUID, Answer]] = deque(maxlen=MOST_UNKEPT)

    def answer(self, booking_id: UUID) -> Answer | None:
        """The newest; whether it is worth something is another question."""
        known = self._known.get(booking_id)
        return None if known is None else known.answer

    async def look(self, now: float, ends: Mapping[UUID, Ends]) -> None:
        """Begin to ask for whom it is due, the longest unasked first. Waits for no answer."""
        self._now, self._ends = now, ends
        rooms = self._rooms.all()
        self._known = {
            room.booking_id: self._known.get(room.booking_id) or _Known() for room in rooms
        }
        due = []
        for count, room in enumerate(rooms, 1):
            if self._is_due(room):
                due.append((self._asked_at(room), room.booking_id))
            if count % ROOMS_PER_SLICE == 0:
                await asyncio.sleep(0)
        due.sort(key=lambda each: each[0])
        self._due = deque(booking_id for _, booking_id in due)
        for _ in range(min(AT_ONCE - len(self._tasks), len(self._due))):
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _asked_at(self, room: Room) -> float:
        asked = self._known[room.booking_id].asked
        return float("-inf") if asked is None else asked.at

    def _is_due(self, room: Room) -> bool:
        question = self._question(room)
        if question is None:
            return False
        way, last = question
        asked = self._known[room.booking_id].asked
        if asked is None or asked.way != way:
            return True
        if asked.start.seq == last.seq:
            return False  # it would say the same
        if self._now - asked.at >= AGAIN_S or not is_within(asked.start, last, AGAIN_M):
            return True
        return band_of(distance_m(way, last)) != band_of(distance_m(way, asked.start))

    def _question(self, room: Room) -> tuple[Way, Recorded] | None:
        """From where to where; None where an answer would be shown to nobody."""
        state = room.state
        if room.is_empty or room.is_erased or state is None or state.last is None:
            return None
        if state.status != "active" or room.freshness is None or room.freshness.state != "live":
            return None
        way = way_now(state.phase, self._ends.get(room.booking_id, Ends()))
        leg = current(state.legs, state.phase)
        if way is None or (leg is not None and leg.state == "arrived"):
            return None
        return way, place_of(state.last)

    async def _work(self) -> None:
        while self._due:
            room = self._rooms.room(self._due.popleft())
            question = None if room is None else self._question(room)
            if room is not None and question is not None:
                await self._ask(room, *question)

    async def _ask(self, room: Room, way: Way, start: Recorded) -> None:
        """Failed or not, it is asked again when it is due: never at once."""
        known = self._known.get(room.booking_id)
        if known is None:
            return  # nobody had it open at the last look
        known.asked = asked = _Asked(way, start, self._now)
        seconds = await self._ask_router(
            (start.longitude, start.latitude), (way.longitude, way.latitude)
        )
        if seconds is None or known.asked is not asked:
            return  # somebody asked from farther on meanwhile
        answer = known.answer = Answer(way, start, seconds)
        band = phase_of(way), band_of(answer.metres)
        track_id = None if room.state is None else room.state.track_id
        if track_id is not None and band not in known.kept:
            known.kept.add(band)
            self._unkept.append((track_id, answer))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Not its text: an address that is asked holds where somebody is.
            log.error("a bug: the router is not asked: %s", type(error).__name__)

    async def keep(self) -> None:
        """What ways and bands were answered first; raises TrackingError, then it is kept later."""
        if not self._unkept:
            return
        answers = list(self._unkept)
        self._unkept.clear()
        try:
            await self._keep(answers)
        except TrackingError:
            self._unkept.extendleft(reversed(answers))
            raise

    def stop(self) -> None:
        """Nobody is asked any more."""
        self._due.clear()
        for task in self._tasks:
            task.cancel()
