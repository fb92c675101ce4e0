"""The live position of one booking over WebSocket: `/ws/tracking/{bookingId}`, the plain stream.

Every frame is one flat JSON object, newer than the one before it. The first is the last known
position, at once, if there is one. After the end of the trip the socket stays open and silent (the
apps reconnect at once when it closes) and is closed after ten quiet minutes.
"""

import asyncio
import errno
import logging
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tornado.iostream import IOStream, StreamClosedError
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

from handlers.base import SUBPROTOCOL_TOKEN, BaseHandler
from tracking import close_codes
from tracking.access import Principal
from tracking.close_codes import CloseCode
from tracking.errors import InvalidRequest, TrackingError
from tracking.messages import Message, location_update
from tracking.rooms import Rooms
from tracking.store.rows import StoredWaypoint, TrackChange
from tracking.store.tracks import TrackView, find_track, last_position

log = logging.getLogger("tracking.stream")

# A phone loses its radio for 10 to 15 s in a tunnel: hold that much at one update a second.
UNSENT_LIMIT: Final = 16
# A viewer that has taken nothing for so long, with all of that waiting, is gone.
SLOW_LIMIT_S: Final = 5.0
# The socket's buffer is full.
WOULD_BLOCK: Final = (-errno.EAGAIN, -errno.EWOULDBLOCK)
# Some proxies and apps look at a finished trip for a while; nobody for longer.
QUIET_AFTER_END_S: Final = 600.0
QUIET_LOOK_S: Final = 10.0
# A stopping server lets its viewers go over so long.
DRAIN_SPREAD_S: Final = 3.0


class StreamHandler(BaseHandler, WebSocketHandler):
    """One viewer. IOLoop thread."""

    route = "/ws/tracking/{bookingId}"

    booking_id: UUID
    principal: Principal

    def initialize(self) -> None:
        self._held: list[Message] | None = []  # live messages from before the first frame
        self._sent_seq = 0
        self._unsent: deque[bytes] = deque()
        self._stream: IOStream | None = None
        self._slow_since = 0.0
        self._ended = False
        self._last_sent = time.monotonic()
        self._expiry: Any = None
        self._joined = False

    async def get(self, text: str) -> None:
        """Everything is checked before the upgrade, so that a refusal has an HTTP status."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequest("a WebSocket upgrade is expected here")
        self.principal, self.booking_id = await self.authorize(text)
        if [p for p in self.subprotocols() if not p.startswith(SUBPROTOCOL_TOKEN)]:
            raise InvalidRequest("unknown WebSocket subprotocol")
        if self.services.rooms.subscribers >= self.services.max_viewers:
            raise HTTPError(503)
        await super().get(text)

    def check_origin(self, origin: str) -> bool:
        """Any, until there is a list: access comes from the token, never from a cookie."""
        allowed = self.services.settings.allowed_origins
        return not allowed or "*" in allowed or origin in allowed

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """A browser that offered only its token is told so, or it would hang up."""
        return subprotocols[0] if subprotocols else None

    async def open(self, *_: str, **__: str) -> None:
        """Join, hold what comes, send the last known position, release what was held."""
        assert self.ws_connection is not None
        self._stream = self.ws_connection.stream
        self.set_nodelay(True)
        self._join()
        try:
            track = await self.services.ask(find_track, self.booking_id)
            last = await self.services.ask(last_position, self.booking_id)
        except TrackingError:
            self.close_with(close_codes.INTERNAL)
            return
        self._begin(track, last)

    def _join(self) -> None:
        self.services.rooms.join(self.booking_id, self)
        self._joined = True
        seconds = (self.principal.expires_at - datetime.now(UTC)).total_seconds()
        self._expiry = self._stream.io_loop.call_later(  # type: ignore[union-attr]
            max(seconds, 0.0), self.close_with, close_codes.TOKEN_EXPIRED
        )

    def _begin(self, track: TrackView | None, last: StoredWaypoint | None) -> None:
        if track is not None:
            self._look_at(track.status, track.runner_id)  # since the upgrade it may have changed
        held, self._held = self._held or [], None
        if last is not None:
            self._send(location_update(last))
        for message in held:
            self._send(message)

    def take(self, message: Message) -> int | None:
        """Where it goes when nothing waits there; otherwise it is held, kept or dropped."""
        if self._held is not None:
            self._held.append(message)
            return None
        if message.seq <= self._sent_seq:
            return None
        self._sent_seq = message.seq
        stream = self._stream
        # After our close frame nothing may follow, even while the client has not answered it.
        if not self._joined or stream is None or stream.closed():
            return None
        if self._unsent or stream.writing():
            self._keep(message.frame)
            return None
        self._last_sent = time.monotonic()
        return stream.socket.fileno()

    def sent(self, message: Message, count: int) -> None:
        """The rest is the stream's: it waits until the socket takes it, and tells us."""
        self._rest(message.frame, count)

    def _send(self, message: Message) -> None:
        if self.take(message) is not None:
            self._write(message.frame)

    def _write(self, frame: bytes) -> None:
        self.services.metrics.messages.inc()
        try:
            count = self._stream.socket.send(frame)  # type: ignore[union-attr]
        except OSError as error:
            count = -(error.errno or errno.EIO)
        if count < len(frame):
            self._rest(frame, count)

    def _rest(self, frame: bytes, count: int) -> None:
        stream = self._stream
        assert stream is not None
        if count < 0 and count not in WOULD_BLOCK:
            stream.close()
            return
        self._slow_since = self._slow_since or time.monotonic()
        try:
            stream.write(frame[max(count, 0) :]).add_done_callback(self._written)
        except StreamClosedError:
            pass

    def _keep(self, frame: bytes) -> None:
        """A newer position replaces an unsent older one; a viewer that stalls is let go."""
        if len(self._unsent) == UNSENT_LIMIT:
            self._unsent.popleft()
            self.services.metrics.replaced.inc()
            if time.monotonic() - self._slow_since > SLOW_LIMIT_S:
                self.services.metrics.closed.labels(close_codes.TOO_SLOW.code).inc()
                # A close frame would wait behind what it does not read.
                self._stream.close()  # type: ignore[union-attr]
                return
        self._unsent.append(frame)

    def _written(self, future: Any) -> None:
        """The socket took what waited: send what was kept meanwhile."""
        stream = self._stream
        if future.exception() is not None or stream is None:
            return
        while self._unsent and not stream.closed() and not stream.writing():
            self._last_sent = time.monotonic()
            self._write(self._unsent.popleft())
        if not self._unsent and not stream.writing():
            self._slow_since = 0.0

    def track_changed(self, change: TrackChange) -> None:
        """The trip ended, began again, or went to another runner, who alone may watch now."""
        self._look_at(change.status, change.runner_id)

    def _look_at(self, status: str, runner_id: UUID) -> None:
        self._ended = status != "active"
        if self.principal.role == "runner" and runner_id != self.principal.user_id:
            self.close_with(close_codes.NOT_FOUND)

    def is_quiet(self, now: float) -> bool:
        """Over, and nothing sent for ten minutes."""
        return self._ended and now - self._last_sent > QUIET_AFTER_END_S

    def on_message(self, message: str | bytes) -> None:
        """The apps send nothing; what comes anyway is dropped."""

    def close_with(self, code: CloseCode) -> None:
        self.services.metrics.closed.labels(code.code).inc()
        self.leave()
        self.close(code.code, code.reason)

    def on_close(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Idempotent: every way that a connection can end comes here, some twice."""
        if self._joined:
            self._joined = False
            self.services.rooms.leave(self.booking_id, self)
        if self._expiry is not None:
            self._stream.io_loop.remove_timeout(self._expiry)  # type: ignore[union-attr]
            self._expiry = None
        self._unsent.clear()


async def close_quiet(rooms: Rooms) -> None:
    """Close the streams of trips that have been over for ten quiet minutes, until cancelled."""
    while True:
        await asyncio.sleep(QUIET_LOOK_S)
        now = time.monotonic()
        for viewer in rooms.everybody():
            if isinstance(viewer, StreamHandler) and viewer.is_quiet(now):
                viewer.close_with(close_codes.TRIP_OVER)


async def close_all(rooms: Rooms) -> None:
    """Tell everybody to come back to another process, spread so that they don't come at once."""
    viewers = list(rooms.everybody())
    pause = min(DRAIN_SPREAD_S / max(len(viewers), 1), 0.01)
    for viewer in viewers:
        if isinstance(viewer, StreamHandler):
            viewer.close_with(close_codes.GOING_AWAY)
        await asyncio.sleep(pause)
