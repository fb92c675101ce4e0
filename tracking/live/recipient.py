"""One connection that is sent something, until it ends. IOLoop thread only."""

import logging
from enum import Enum
from typing import Protocol

from tracking.domain.access import Principal
from tracking.live.send_queue import SendQueue
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode

log = logging.getLogger("tracking.stream")


class State(Enum):
    """Of a recipient: joining → catching up → live ⇄ catching up; from each of them to ended."""

    JOINING = "joining"  # `welcome` is still to come; what is published is held
    CATCHING_UP = "catching up"  # gets what it missed; what is published is held
    LIVE = "live"  # gets what is published
    ENDED = "ended"  # has left: nothing more is sent


class Connection(Protocol):
    """The WebSocket behind a recipient."""

    @property
    def request_id(self) -> str:
        """Of its handshake, for the log."""

    def send_close(self, code: CloseCode) -> None:
        """Write the close frame. Called once, when the recipient has left."""


class Recipient:
    """What all kinds have in common: who it is, its socket, and how it ends."""

    __slots__ = ("connection", "principal", "send_queue", "state")

    def __init__(
        self, connection: Connection, principal: Principal, send_queue: SendQueue, state: State
    ) -> None:
        self.connection = connection
        self.principal = principal  # a `refresh` replaces it
        self.send_queue = send_queue
        self.state = state

    @property
    def last_sent(self) -> float:
        """time.monotonic() of the last message."""
        return self.send_queue.last_sent

    def begin(self) -> None:
        """After joining."""

    def tell(self, frame: bytes) -> None:
        """A message about the connection itself, or a status."""
        if self.state in (State.CATCHING_UP, State.LIVE):
            self.send_queue.send(frame)

    def end(self, code: CloseCode) -> None:
        """Leave, and close the connection with this code. Idempotent."""
        if self.state is not State.ENDED:
            self.leave()
            self.connection.send_close(code)

    def leave(self) -> None:
        """Nothing more is sent. Idempotent: also when the peer closes."""
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._left()
            self.send_queue.discard()

    def _left(self) -> None:
        """Where it was, it is not any more."""

    def fail(self, error: Exception) -> None:
        """An error of ours in what concerns this viewer: it ends with 1011, nobody else does."""
        extra = {"request_id": self.connection.request_id}
        log.error("a viewer is closed because of an error", exc_info=error, extra=extra)
        self.send_queue.metrics.live_errors.labels("viewer").inc()
        try:
            if self.state is not State.ENDED:
                self.end(close_codes.INTERNAL)
                return
        except Exception:
            log.exception("and has no close frame because of another", extra=extra)
        self.send_queue.abort()  # it was closing when it failed
