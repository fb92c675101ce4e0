"""Who watches which booking. IOLoop thread only, hence no lock."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol
from uuid import UUID

from tracking.domain.tracks import LiveState
from tracking.live.room import Room
from tracking.live.subscriber import Subscriber
from tracking.wire import close_codes

Read = Callable[[UUID], Awaitable[LiveState | None]]


class Reads(Protocol):
    """Brings what other processes publish of the bookings that are watched."""

    def opened(self, booking_id: UUID) -> None:
        """Somebody watches it."""

    def closed(self, booking_id: UUID) -> None:
        """Nobody does any more."""

    async def positioned(self, booking_id: UUID) -> None:
        """Until whatever is published of it comes. Bounded."""


class Rooms:
    """A room for each booking that somebody watches, or is about to."""

    def __init__(self) -> None:
        self._rooms: dict[UUID, Room] = {}
        self._subscribers = 0
        # Read by the relay's thread: whoever is here before its state is read misses nothing.
        self.watched: set[bytes] = set()
        self.on_gap: Callable[[Room], None] = _nobody_heals
        self.reads: Reads = _Everything()

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def subscribers(self) -> int:
        return self._subscribers

    async def enter(self, booking_id: UUID, read: Read) -> Room | None:
        """The room with its state, read once for all who enter together; None: no such booking.

        Whoever got a room calls `join` or `withdraw`. Raises what `read` raises.
        """
        room = self._rooms.get(booking_id)
        if room is None:
            room = self._rooms[booking_id] = Room(booking_id, self)
            self.watched.add(booking_id.bytes)
            self.reads.opened(booking_id)
        room.entering += 1
        try:
            if room.state is None or room.is_outdated:
                await self._read(room, read)
        except BaseException:
            self.withdraw(room)
            raise
        if room.state is None:
            self.withdraw(room)
            return None
        return room

    async def _read(self, room: Room, read: Read) -> None:
        if room.reading is None:
            room.expect()
            room.reading = asyncio.ensure_future(self._begin(room, read))
        await asyncio.shield(room.reading)

    async def _begin(self, room: Room, read: Read) -> None:
        """In one step with the end of reading, or a change in between would be forgotten."""
        try:
            # First from where on changes come, then what was before.
            await self.reads.positioned(room.booking_id)
            state = await read(room.booking_id)
        finally:
            room.reading = None
        if state is not None:
            room.begin(state)

    def withdraw(self, room: Room) -> None:
        """Entered, but will not join."""
        room.entering -= 1
        self._forget_if_empty(room)

    def join(self, subscriber: Subscriber) -> None:
        """After `enter`, once."""
        subscriber.room.entering -= 1
        subscriber.room.join(subscriber)
        self._subscribers += 1

    def left(self, room: Room) -> None:
        """One subscriber has."""
        self._subscribers -= 1
        self._forget_if_empty(room)

    def _forget_if_empty(self, room: Room) -> None:
        """Memory follows the viewers, not history."""
        if not room.entering and room.is_empty:
            self._forget(room)

    def _forget(self, room: Room) -> None:
        """Unless it is forgotten already, and there is another one by now."""
        if self._rooms.get(room.booking_id) is room:
            del self._rooms[room.booking_id]
            self.watched.discard(room.booking_id.bytes)
            self.reads.closed(room.booking_id)

    def erase(self, booking_id: UUID) -> None:
        """The booking was erased: whoever watches it goes, who is about to finds nothing of it."""
        room = self._rooms.get(booking_id)
        if room is None:
            return
        room.is_erased = True
        self._forget(room)
        for subscriber in room.everybody():
            try:
                subscriber.end(close_codes.NOT_FOUND)
            except Exception as error:
                subscriber.fail(error)

    def room(self, booking_id: UUID) -> Room | None:
        """None if nobody watches."""
        return self._rooms.get(booking_id)

    def all(self) -> list[Room]:
        """Every room at this moment."""
        return list(self._rooms.values())

    def everybody(self) -> Iterator[Subscriber]:
        """Every subscriber at this moment, safe against leaving meanwhile."""
        for room in self.all():
            yield from room.everybody()


def _nobody_heals(_: Room) -> None:
    """Until somebody does: see healing.py."""


class _Everything:
    """Where nothing is read: all that is published comes from this process."""

    def opened(self, _: UUID) -> None:
        pass

    def closed(self, _: UUID) -> None:
        pass

    async def positioned(self, _: UUID) -> None:
        pass
