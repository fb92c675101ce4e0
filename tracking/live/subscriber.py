"""One connection in a room: what it has been sent, and what it is sent next. IOLoop thread only.

`Subscriber` is the plain stream; `ProtocolSubscriber` (protocol_subscriber.py) is `tracking.v1`.
"""

import socket
from typing import TYPE_CHECKING

from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.domain.tracks import TrackChange
from tracking.live.recipient import Connection, Recipient, State
from tracking.live.send_queue import TICK_S, SendQueue
from tracking.live.views import EVERYTHING, View
from tracking.wire import close_codes
from tracking.wire.messages import Message

if TYPE_CHECKING:
    from tracking.live.cohort import Cohort
    from tracking.live.room import Room


class Subscriber(Recipient):
    """The plain stream: positions only, each newer than the one before it.

    After the end of the trip it stays open and silent: the apps come back at once when it closes.
    """

    __slots__ = ("cohort", "room", "sent_seq")

    view: View = EVERYTHING

    def __init__(
        self, room: "Room", connection: Connection, principal: Principal, send_queue: SendQueue
    ) -> None:
        super().__init__(connection, principal, send_queue, State.LIVE)
        self.room = room
        send_queue.owner = self
        self.cohort: Cohort | None = None  # set by the audience
        self.sent_seq = 0  # behind while it is in a cohort, which knows better

    def accept(self, message: Message) -> int | None:
        """The descriptor to which a position may go at once; None if it was queued or dropped."""
        if message.seq > self.sent_seq and self.state is State.LIVE:
            self.sent_seq = message.seq
            return self.send_queue.accept(message.frame)
        return None

    def accept_late(self, message: Message) -> None:
        """A backfill of late waypoints: the plain stream does not know any."""

    def socket_in_sync(self) -> socket.socket | None:
        """Its socket, if it wants every position and nothing waits; else None."""
        return self.send_queue.free_socket()

    def leave_cohort(self) -> None:
        """It is served by itself again: what its cohort was sent, it was sent."""
        if self.cohort is not None:
            self.cohort.remove(self)

    @property
    def last_sent(self) -> float:
        """time.monotonic() of the last message, or a tick before: a heartbeat is never late."""
        own, cohort = self.send_queue.last_sent, self.cohort
        return own if cohort is None else max(own, cohort.sent_at - TICK_S)

    def begin(self) -> None:
        """After joining the room: the last known position, at once."""
        position = self.room.position()
        if position is not None:
            self.sent_seq = position.seq
            self.send_queue.send(position.frame, replaceable=True)

    def tell(self, frame: bytes) -> None:
        """A status: the plain stream is not told."""

    def tell_newest(self, frame: bytes) -> None:
        """A status that says all that the one before it said: likewise."""

    def fall_behind(self) -> None:
        """The room has missed changes: the plain stream shows the newest position only."""
        self.leave_cohort()
        position = self.room.position()
        if position is not None and position.seq > self.sent_seq and self.state is State.LIVE:
            self.sent_seq = position.seq
            self.send_queue.send(position.frame, replaceable=True)

    def begin_anew(self) -> None:
        """Other waypoints are shown than before: not to whoever sees all of them."""

    def finish(self) -> None:
        """The trip is over: the plain stream stays open."""

    def check_access(self, change: TrackChange) -> None:
        """An owner or runner who was replaced sees no more, not even by whom."""
        access = BookingAccess(change.booking_id, change.owner_id, change.runner_id)
        if not may_watch(self.principal, access):
            self.end(close_codes.NOT_FOUND)

    def _left(self) -> None:
        self.room.leave(self)
