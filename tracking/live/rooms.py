"""Who watches which booking. IOLoop thread only, hence no lock."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

from tracking.domain.tracks import LiveState
from tracking.live.room import Room
from tracking.live.subscriber import Subscriber

Read = Callable[[UUID], Awaitable[LiveState | None]]


class Rooms:
    """A room for each booking that somebody watches, or is about to."""

    def __init__(self) -> None:
        self._rooms: dict[UUID, Room] = {}
        self._subscribers = 0
        # Read by the relay's thread: whoever is here before its state is read misses nothing.
        self.watched: set[bytes] = set()
        self.on_gap: Callable[[Room], None] = _nobody_heals

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
            room.reading = asyncio.ensure_future(_begin(room, read))
        await asyncio.shield(room.reading)

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
            self._rooms.pop(room.booking_id, None)
            self.watched.discard(room.booking_id.bytes)

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


async def _begin(room: Room, read: Read) -> None:
    """In one step with the end of reading, or a change in between would be forgotten."""
    try:
        state = await read(room.booking_id)
    finally:
        room.reading = None
    if state is not None:
        room.begin(state)
