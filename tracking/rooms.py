"""Rooms, Subscriber: who watches which booking. IOLoop thread only, hence no lock."""

from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

from tracking.messages import Message
from tracking.store.rows import TrackChange


class Subscriber(Protocol):
    """One connection in a room."""

    def take(self, message: Message) -> int | None:
        """The descriptor to which its frame may go at once; None if it was kept or dropped."""

    def sent(self, message: Message, count: int) -> None:
        """That socket took only so many bytes (negative: an errno); never blocks or raises."""

    def track_changed(self, change: TrackChange) -> None:
        """The trip ended, or went to another runner; never blocks and never raises."""


class Rooms:
    """Who watches which booking. IOLoop thread only, hence no lock."""

    def __init__(self) -> None:
        self._rooms: dict[UUID, set[Subscriber]] = {}
        self._subscribers = 0

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def subscribers(self) -> int:
        return self._subscribers

    def join(self, booking_id: UUID, subscriber: Subscriber) -> None:
        room = self._rooms.setdefault(booking_id, set())
        if subscriber not in room:
            room.add(subscriber)
            self._subscribers += 1

    def leave(self, booking_id: UUID, subscriber: Subscriber) -> None:
        """Idempotent: called when the peer closes and again when a send fails."""
        room = self._rooms.get(booking_id)
        if room is None or subscriber not in room:
            return
        room.discard(subscriber)
        self._subscribers -= 1
        if not room:
            del self._rooms[booking_id]  # memory follows the viewers, not history

    def room(self, booking_id: UUID) -> set[Subscriber] | None:
        """The live set: copy it before waiting for anything. None if nobody watches."""
        return self._rooms.get(booking_id)

    def everybody(self) -> Iterator[Subscriber]:
        """Every subscriber at this moment, safe against leaving meanwhile."""
        for room in list(self._rooms.values()):
            yield from list(room)
