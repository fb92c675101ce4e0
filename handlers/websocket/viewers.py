"""One connection in a room: what it is told, and when it ends. IOLoop thread.

The plain stream knows flat positions only; `tracking.v1` (protocol_viewer.py) adds the rest.
"""

import socket
import time
from datetime import UTC, datetime
from typing import Final, Protocol

from handlers.services import Services
from handlers.websocket.send_queue import TICK_S, SendQueue
from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.domain.freshness import Freshness
from tracking.domain.tracks import TrackChange
from tracking.live.audience import Cohort
from tracking.live.rooms import Room
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode
from tracking.wire.messages import Message

# Some apps look at a finished trip for a while; nobody for longer.
QUIET_AFTER_END_S: Final = 600.0
# A peer is asked whether it lives, and given as long to answer: gone within 45 s.
PING_S: Final = 20.0


class Connection(Protocol):
    """What a viewer needs of its WebSocket."""

    principal: Principal

    @property
    def services(self) -> Services:
        """What every handler may use."""

    def close_with(self, code: CloseCode) -> None:
        """Leave the room and say why."""


class Viewer:
    """What both kinds have in common: it gets each seq once, in order, until its time is over."""

    __slots__ = (
        "_heard_at",
        "_pinged_at",
        "_sent_seq",
        "cohort",
        "connection",
        "expires_at",
        "room",
        "send_queue",
    )

    def __init__(self, connection: Connection, room: Room, send_queue: SendQueue) -> None:
        self.connection = connection
        self.room = room
        self.send_queue = send_queue
        send_queue.owner = self
        self.cohort: Cohort | None = None
        self._sent_seq = 0  # while it is in no cohort
        self._heard_at = self._pinged_at = time.monotonic()
        self.expects(connection.principal)

    def expects(self, principal: Principal) -> None:
        """The token's end, on this process's clock."""
        left = (principal.expires_at - datetime.now(UTC)).total_seconds()
        self.expires_at = time.monotonic() + left

    def begin(self) -> None:
        """After joining the room: what is known already."""

    def end(self) -> None:
        """After leaving it: nothing more is sent."""
        self.send_queue.discard()

    def take(self, message: Message) -> int | None:
        if message.is_position and message.seq > self._sent_seq:
            self._sent_seq = message.seq
            return self.send_queue.take(message.frame)
        return None

    def sent(self, message: Message, count: int) -> None:
        self.send_queue.sent(message.frame, count)

    def level_socket(self) -> socket.socket | None:
        return self.send_queue.free_socket()

    def occupied(self) -> None:
        """It has to be asked again: what its cohort has got, it has."""
        cohort = self.cohort
        if cohort is not None:
            self._sent_seq = cohort.seq
            self.send_queue.last_sent = self._last_sent
            self.room.audience.single_out(self)

    @property
    def _last_sent(self) -> float:
        """time.monotonic() of the last message, or a tick before: a heartbeat is never late."""
        cohort = self.cohort
        return max(self.send_queue.last_sent, 0.0 if cohort is None else cohort.sent_at - TICK_S)

    def track_changed(self, change: TrackChange) -> None:
        """A runner who was replaced sees no more, not even this."""
        access = BookingAccess(change.booking_id, change.owner_id, change.runner_id)
        if not may_watch(self.connection.principal, access):
            self.connection.close_with(close_codes.NOT_FOUND)

    def freshness_changed(self, freshness: Freshness) -> None:
        """The plain stream is not told."""

    def received(self, message: str | bytes) -> None:
        """The apps send nothing; what comes anyway is dropped."""

    def heard(self) -> None:
        """The peer is there: a pong, or a message."""
        self._heard_at = time.monotonic()

    def tick(self, now: float) -> None:
        """Once a second."""
        self.send_queue.tick(now)
        code = self._end(now)
        if code is not None:
            self.connection.close_with(code)
            if code in (close_codes.TOO_SLOW, close_codes.HEARTBEAT_LOST):
                self.send_queue.cut()  # it would not read the close frame
        elif now - self._pinged_at >= PING_S:
            self._pinged_at = now
            self.send_queue.ping()

    def _end(self, now: float) -> CloseCode | None:
        """Why it has to end now, if it has to."""
        if now >= self.expires_at:
            return close_codes.TOKEN_EXPIRED
        if self.send_queue.is_stuck(now):
            return close_codes.TOO_SLOW
        if now - self._heard_at > 2 * PING_S:
            return close_codes.HEARTBEAT_LOST
        return None

    @property
    def is_catching_up(self) -> bool:
        """What happens is held back until it has what happened before."""
        return False

    @property
    def is_over(self) -> bool:
        """The trip that is watched has ended."""
        state = self.room.state
        return state is not None and state.status in ("completed", "cancelled")


class PlainViewer(Viewer):
    """The plain stream: flat positions, each newer than the one before it, and nothing else.

    After the end of the trip it stays open and silent: the apps come back at once when it closes.
    """

    __slots__ = ()

    def begin(self) -> None:
        position = self.room.position()
        if position is not None:
            self._sent_seq = position.seq
            self.send_queue.send(position.frame, replaceable=True)

    def _end(self, now: float) -> CloseCode | None:
        if self.is_over and now - self._last_sent > QUIET_AFTER_END_S:
            return close_codes.TRIP_OVER
        return super()._end(now)
