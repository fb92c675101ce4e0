"""One connection as the server keeps it: its peer, its token, its end. IOLoop thread.

What it is sent is its subscriber's business (tracking/live).
"""

import time
from datetime import UTC, datetime
from typing import Final, Protocol

from handlers.services import Services
from tracking.domain.access import Principal
from tracking.live.recipient import Connection, Recipient
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue
from tracking.live.subscriber import Subscriber
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode

# Some apps look at a finished trip for a while; nobody for longer.
QUIET_AFTER_END_S: Final = 600.0
# A peer is asked whether it lives, and given as long to answer: gone within 45 s.
PING_S: Final = 20.0


class Handler(Connection, Protocol):
    """What a viewer needs of its WebSocket handler. `send_close` writes the close frame, once."""

    @property
    def services(self) -> Services:
        """What every handler may use."""


class Viewer:
    """What both protocols have in common. To its subscriber it is the connection."""

    __slots__ = ("_heard_at", "_pinged_at", "expires_at", "handler", "subscriber")

    def __init__(self, handler: Handler, subscriber: Recipient) -> None:
        self.handler = handler
        self.subscriber = subscriber
        self._heard_at = self._pinged_at = time.monotonic()
        self.expects(subscriber.principal)

    @property
    def request_id(self) -> str:
        return self.handler.request_id

    def send_close(self, code: CloseCode) -> None:
        """The subscriber has left: the handler counts it and writes the close frame."""
        self.stop()
        self.handler.send_close(code)

    def leave(self) -> None:
        """The peer has gone. Idempotent."""
        self.subscriber.leave()
        self.stop()

    def stop(self) -> None:
        """What still runs for it."""

    def expects(self, principal: Principal) -> None:
        """The token's end, on this process's clock."""
        left = (principal.expires_at - datetime.now(UTC)).total_seconds()
        self.expires_at = time.monotonic() + left

    def received(self, message: str | bytes) -> None:
        """The apps send nothing; what comes anyway is dropped."""

    def heard(self) -> None:
        """The peer is there: a pong, or a message."""
        self._heard_at = time.monotonic()

    def tick(self, now: float) -> None:
        """Once a second; `now` is time.monotonic()."""
        send_queue = self.subscriber.send_queue
        send_queue.tick(now)
        code = self._reason_to_end(now)
        if code is not None:
            self.subscriber.end(code)
            if code in (close_codes.TOO_SLOW, close_codes.HEARTBEAT_LOST):
                send_queue.abort()  # it would not read the close frame
        elif now - self._pinged_at >= PING_S:
            self._pinged_at = now
            send_queue.ping()

    def _reason_to_end(self, now: float) -> CloseCode | None:
        """None if it goes on."""
        if now >= self.expires_at:
            return close_codes.TOKEN_EXPIRED
        if self.subscriber.send_queue.is_stuck(now):
            return close_codes.TOO_SLOW
        if now - self._heard_at > 2 * PING_S:
            return close_codes.HEARTBEAT_LOST
        return None


class PlainViewer(Viewer):
    """The plain stream: after the end of the trip it stays open, silent, for ten minutes."""

    __slots__ = ()

    subscriber: Subscriber

    def __init__(
        self, handler: Handler, room: Room, principal: Principal, send_queue: SendQueue
    ) -> None:
        super().__init__(handler, Subscriber(room, self, principal, send_queue))

    def _reason_to_end(self, now: float) -> CloseCode | None:
        is_quiet = now - self.subscriber.last_sent > QUIET_AFTER_END_S
        if self.subscriber.room.is_over and is_quiet:
            return close_codes.TRIP_OVER
        return super()._reason_to_end(now)
