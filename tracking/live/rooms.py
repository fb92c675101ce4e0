"""Rooms and Room: who watches which booking, and what is known of it.

IOLoop thread only, hence no lock.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from tracking.domain.freshness import Freshness, Silence, freshness_of
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.audience import Audience, Subscriber
from tracking.wire.messages import Message, location_update

R = TypeVar("R")
# Everybody who comes back at once has missed the same: so many answers are kept until nobody has
# wanted them for so long, and no longer than a storm of reconnects lasts.
SHARED: Final = 8
SHARED_S: Final = 5.0
LONGEST_S: Final = 60.0

Read = Callable[[UUID], Awaitable[LiveState | None]]


class _Answer:
    """What the database said to a question, or will say."""

    __slots__ = ("future", "is_wanted")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.is_wanted = True  # since it was looked at last


class Room:
    """One booking that somebody watches, and its state: kept current by what is published.

    So whoever joins a room that is there asks the database nothing.
    """

    def __init__(self, booking_id: UUID) -> None:
        self.booking_id = booking_id
        self.audience = Audience()
        self.entering = 0  # those who wait for the state, or for their access to be checked
        self.reading: asyncio.Future[None] | None = None
        self.state: LiveState | None = None
        self.is_outdated = False  # the route may have lost its newest waypoint
        self.freshness: Freshness | None = None  # as the subscribers were told last
        self._silence = Silence()
        self._heard_at: datetime | None = None
        self._unseen: list[StoredWaypoint | TrackChange] = []
        self._answers: dict[tuple[object, ...], _Answer] = {}
        self._position: tuple[StoredWaypoint, Message] | None = None

    async def shared(self, question: tuple[object, ...], ask: Callable[[], Awaitable[R]]) -> R:
        """One answer of the database for all who want the same within a few seconds."""
        answer = self._answers.pop(question, None)
        if answer is None:
            if len(self._answers) >= SHARED:
                del self._answers[next(iter(self._answers))]
            answer = _Answer(asyncio.ensure_future(ask()))
            answer.future.add_done_callback(partial(self._answered, question, answer))
        self._answers[question] = answer
        answer.is_wanted = True
        found: R = await asyncio.shield(answer.future)
        return found

    def _answered(
        self, question: tuple[object, ...], answer: _Answer, future: asyncio.Future[Any]
    ) -> None:
        failed = future.cancelled() or future.exception() is not None
        self._look_at(question, answer, 0.0 if failed else LONGEST_S)

    def _look_at(self, question: tuple[object, ...], answer: _Answer, left_s: float) -> None:
        """Every few seconds: keep what was wanted since, forget the rest."""
        if answer.is_wanted and left_s > 0:
            answer.is_wanted = False
            loop = asyncio.get_running_loop()
            loop.call_later(SHARED_S, self._look_at, question, answer, left_s - SHARED_S)
        elif self._answers.get(question) is answer:
            del self._answers[question]

    def expect(self) -> None:
        """The state is about to be read, with all that was published before."""
        self._unseen.clear()

    def begin(self, state: LiveState) -> None:
        """The state as it was read, and what was published meanwhile."""
        old, self.state, self.is_outdated = self.state, state, False
        if old is not None and old.head_seq > state.head_seq:
            if old.last is not None and old.last.seq > state.head_seq:
                state.last = old.last
            state.head_seq = old.head_seq
        unseen, self._unseen = self._unseen, []
        for each in unseen:
            if isinstance(each, TrackChange):
                self.changed(each)
            else:
                self.moved(each)

    def moved(self, waypoint: StoredWaypoint) -> None:
        """A waypoint was stored; a late one doesn't move the marker."""
        state = self.state
        if state is None:
            self._unseen.append(waypoint)
        elif waypoint.seq > state.head_seq:
            state.head_seq, self._heard_at = waypoint.seq, waypoint.received_at
            if not waypoint.late:
                if state.last is not None:
                    self._silence.learn(waypoint.recorded_at - state.last.recorded_at)
                state.last = waypoint

    def changed(self, change: TrackChange) -> None:
        """Status, phase or runner; the first one tells of the track itself."""
        state = self.state
        if state is None or self.reading is not None:
            self._unseen.append(change)  # what is being read may be older than this
        if state is None:
            return
        state.track_id, state.epoch = change.track_id, change.epoch
        state.status, state.phase, state.runner_id = change.status, change.phase, change.runner_id
        state.owner_id, state.started_at = change.owner_id, change.started_at
        self.is_outdated = change.old_status is not None
        self._answers.clear()  # waypoints may have left the route

    def position(self) -> Message | None:
        """The last known one, encoded once for all who join; None before the first."""
        last = None if self.state is None else self.state.last
        if last is None:
            return None
        if self._position is None or self._position[0] is not last:
            self._position = last, location_update(last)
        return self._position[1]

    def look(self, now: datetime, delay_s: float) -> Freshness | None:
        """How true what is seen is at this moment; None before the trip and after it."""
        state = self.state
        if state is None or state.status != "active":
            return None
        last_at = None if state.last is None else state.last.received_at
        heard_at = self._heard_at or last_at or state.started_at or now
        has_point = state.last is not None
        return freshness_of(now, heard_at, has_point, self._silence.interval, delay_s)

    def age(self, now: datetime, delay_s: float) -> None:
        """Tell the subscribers when what they see is not as true any more, or is again."""
        before, self.freshness = self.freshness, self.look(now, delay_s)
        new = self.freshness
        if (
            new is not None
            and before is not None
            and (before.state, before.reason) != (new.state, new.reason)
        ):
            for subscriber in self.audience.everybody():
                subscriber.freshness_changed(new)


class Rooms:
    """Who watches which booking. IOLoop thread only, hence no lock."""

    def __init__(self) -> None:
        self._rooms: dict[UUID, Room] = {}
        self._subscribers = 0

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def subscribers(self) -> int:
        return self._subscribers

    async def enter(self, booking_id: UUID, read: Read) -> Room | None:
        """The room with its state, read once for all who enter together; None: no such booking.

        Whoever got a room joins it or quits it. Raises what `read` raises.
        """
        room = self._rooms.get(booking_id)
        if room is None:
            room = self._rooms[booking_id] = Room(booking_id)
        room.entering += 1
        try:
            if room.state is None or room.is_outdated:
                await self._read(room, read)
        except BaseException:
            self.quit(room)
            raise
        if room.state is None:
            self.quit(room)
            return None
        return room

    async def _read(self, room: Room, read: Read) -> None:
        if room.reading is None:
            room.expect()
            room.reading = asyncio.ensure_future(_begin(room, read))
        await asyncio.shield(room.reading)

    def quit(self, room: Room) -> None:
        """Entered, but will not join."""
        room.entering -= 1
        self._forget_if_empty(room)

    def join(self, room: Room, subscriber: Subscriber) -> None:
        """After `enter`, once."""
        room.entering -= 1
        room.audience.add(subscriber)
        self._subscribers += 1

    def leave(self, room: Room, subscriber: Subscriber) -> None:
        """Idempotent: called when the peer closes and again when a send fails."""
        if room.audience.remove(subscriber):
            self._subscribers -= 1
            self._forget_if_empty(room)

    def _forget_if_empty(self, room: Room) -> None:
        """Memory follows the viewers, not history."""
        if not room.entering and not len(room.audience):
            self._rooms.pop(room.booking_id, None)

    def room(self, booking_id: UUID) -> Room | None:
        """None if nobody watches."""
        return self._rooms.get(booking_id)

    def all(self) -> list[Room]:
        """Every room at this moment."""
        return list(self._rooms.values())

    def everybody(self) -> Iterator[Subscriber]:
        """Every subscriber at this moment, safe against leaving meanwhile."""
        for room in self.all():
            yield from room.audience.everybody()


async def _begin(room: Room, read: Read) -> None:
    """In one step with the end of reading, or a change in between would be forgotten."""
    try:
        state = await read(room.booking_id)
    finally:
        room.reading = None
    if state is not None:
        room.begin(state)
