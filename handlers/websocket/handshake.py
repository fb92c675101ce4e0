"""`/ws/tracking/{bookingId}`: the handshake, and the life of a connection. IOLoop thread.

Everything is checked before the upgrade. On the plain stream a refusal is an HTTP status; a browser
cannot read that, so `tracking.v1` is upgraded and closed with the refusal's code.
"""

import base64
import binascii
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from handlers.base import SUBPROTOCOL_TOKEN, BaseHandler, booking_id_of
from handlers.limits import Place, network_of
from handlers.websocket.frames import StrictProtocol
from handlers.websocket.protocol_viewer import JoinOptions, ProtocolViewer
from handlers.websocket.send_queue import SendQueue
from handlers.websocket.viewers import PlainViewer, Viewer
from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.domain.tracks import LiveState
from tracking.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    InvalidToken,
    NotFound,
    Overloaded,
    TooManyConnections,
    TooManyRequests,
    TrackingError,
)
from tracking.live.rooms import Room
from tracking.store.read.live import live_state
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode
from tracking.wire.protocol import MAX_SEQ, SUBPROTOCOL

log = logging.getLogger("tracking.stream")

CODE_OF: Final[Mapping[type[TrackingError], CloseCode]] = {
    InvalidRequest: close_codes.BAD_REQUEST,
    InvalidToken: close_codes.INVALID_TOKEN,
    NotFound: close_codes.NOT_FOUND,
    DatabaseUnavailable: close_codes.OVERLOADED,
    Overloaded: close_codes.OVERLOADED,
    TooManyRequests: close_codes.TOO_MANY,
    TooManyConnections: close_codes.TOO_MANY_CONNECTIONS,
}
# As metrics name them.
REFUSED: Final[Mapping[type[TrackingError], str]] = {
    InvalidRequest: "bad_request",
    InvalidToken: "invalid_token",
    NotFound: "not_found",
    DatabaseUnavailable: "database_unavailable",
    Overloaded: "full",
    TooManyRequests: "too_many_requests",
    TooManyConnections: "too_many_connections",
}
# A client may ask for a position every ten minutes at the least.
MAX_INTERVAL_MS: Final = 600_000
# Left to itself the kernel keeps megabytes for a viewer that stopped reading; doubled by Linux.
SEND_BUFFER_BYTES: Final = 64 << 10
WEBSOCKET_VERSION: Final = "13"
# What is left of a handshake, the same for all: nobody writes to it after the upgrade.
NO_HEADERS: Final = HTTPHeaders()
NO_ARGUMENTS: Final[dict[str, list[bytes]]] = {}


class StreamHandler(BaseHandler, WebSocketHandler):
    """One connection; what it is told is its viewer's business."""

    # More than 30 attributes in an object's dict cost 1.3 kB: Tornado has 27.
    __slots__ = (
        "_closing",
        "_is_v1",
        "_options",
        "_place",
        "_refusal",
        "_room",
        "booking_id",
        "principal",
        "viewer",
    )

    route = "/ws/tracking/{bookingId}"

    booking_id: UUID
    principal: Principal

    def initialize(self) -> None:
        self._place: Place | None = None
        self._refusal: CloseCode | None = None
        self._closing = False
        self._is_v1 = SUBPROTOCOL in self.subprotocols()
        self._room: Room | None = None
        self._options = JoinOptions()
        self.viewer: Viewer | None = None

    async def get(self, text: str) -> None:
        """Returns when the connection has ended."""
        self._check_handshake()
        try:
            try:
                with self._counted():
                    await self._check(text)
            except TrackingError as error:
                if not self._is_v1:
                    raise
                self._refusal = CODE_OF[type(error)]
            await super().get(text)
        finally:
            self._leave()
            if self._place is not None:
                self.services.limits.give_back(self._place)

    def _check_handshake(self) -> None:
        """RFC 6455, section 4.2.1: what cannot be upgraded has no close code."""
        request, headers = self.request, self.request.headers
        connection = [part.strip().lower() for part in headers.get("Connection", "").split(",")]
        if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
            raise InvalidRequest("a WebSocket upgrade is expected here")
        if request.version != "HTTP/1.1":
            raise InvalidRequest("a WebSocket needs HTTP/1.1")
        if headers.get("Sec-WebSocket-Version") != WEBSOCKET_VERSION:
            raise HTTPError(426)
        if not _is_key(headers.get("Sec-WebSocket-Key", "")):
            raise InvalidRequest("Sec-WebSocket-Key is not 16 bytes in base64")

    def write_error(self, status_code: int, **kwargs: object) -> None:
        if status_code == 426:
            self.set_header("Upgrade", "websocket")
            self.set_header("Sec-WebSocket-Version", WEBSOCKET_VERSION)
        super().write_error(status_code, **kwargs)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """How the check ended."""
        outcome = "failed"
        try:
            yield
            outcome = "joined"
        except TrackingError as error:
            outcome = REFUSED.get(type(error), "failed")
            raise
        finally:
            self.services.metrics.joins.labels(self._protocol_name(), outcome).inc()

    def _protocol_name(self) -> str:
        return SUBPROTOCOL if self._is_v1 else "plain"

    async def _check(self, text: str) -> None:
        """In the order 429, 401, 400, 503, 404; then the room is entered."""
        services = self.services
        address = network_of(self.request.remote_ip or "")
        services.limits.admit(address)
        self.principal = services.tokens.principal(self.token())
        self.booking_id = booking_id_of(text)
        self._options = self._join_options()
        for name in self.subprotocols():
            if name != SUBPROTOCOL and not name.startswith(SUBPROTOCOL_TOKEN):
                raise InvalidRequest("unknown WebSocket subprotocol")
        self._place = services.limits.place(self.principal.user_id, address)
        room = await services.rooms.enter(self.booking_id, self._read_state)
        if room is None:
            raise NotFound("no such booking")
        self._room = room
        self._check_access(room)

    async def _read_state(self, booking_id: UUID) -> LiveState | None:
        return await self.services.ask(live_state, booking_id)

    def _check_access(self, room: Room) -> None:
        """Asked again after the upgrade: meanwhile it may have gone to another runner."""
        assert room.state is not None
        access = BookingAccess(self.booking_id, room.state.owner_id, room.state.runner_id)
        if not may_watch(self.principal, access):
            raise NotFound("no such booking")

    def _join_options(self) -> JoinOptions:
        """Of a `tracking.v1` client; the apps' query holds nothing of it."""
        history = self.get_query_argument("history", "all")
        if history not in ("all", "none"):
            raise InvalidRequest("history is all or none")
        since = self.get_query_argument("since_seq", None)
        if since is not None and self.whole_number("since_seq", 0) > MAX_SEQ:
            raise InvalidRequest("since_seq is out of range")
        interval_ms = self.whole_number("min_interval_ms", 0)
        if interval_ms > MAX_INTERVAL_MS:
            raise InvalidRequest(f"min_interval_ms is above {MAX_INTERVAL_MS}")
        return JoinOptions(
            epoch=self.get_query_argument("epoch", None),
            since_seq=None if since is None else int(since),
            history=history == "all",
            min_interval_s=interval_ms / 1000,
        )

    def check_origin(self, origin: str) -> bool:
        """Any, until there is a list: access comes from the token, never from a cookie."""
        allowed = self.services.settings.allowed_origins
        return not allowed or "*" in allowed or origin in allowed

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The real one; a browser that offered only its token gets that, or it would hang up."""
        if SUBPROTOCOL in subprotocols:
            return SUBPROTOCOL
        return subprotocols[0] if subprotocols else None

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        protocol = super().get_websocket_protocol()
        if isinstance(protocol, WebSocketProtocol13):
            return StrictProtocol(self, protocol.params, self.close_with)
        return protocol

    def open(self, *_: str, **__: str) -> None:
        """Join the room and begin."""
        assert self.ws_connection is not None
        stream = self.ws_connection.stream
        if stream is None or stream.closed():
            return  # it has gone before it was let in: `get` ends, and leaves the room
        self.set_nodelay(True)  # Tornado has turned it off behind its answer
        room = self._room
        if self._refusal is None and room is not None:
            try:
                self._check_access(room)
            except NotFound:
                self._refusal = close_codes.NOT_FOUND
        if self._refusal is not None or room is None:
            self.close_with(self._refusal or close_codes.INTERNAL)
            return
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        send_queue = SendQueue(stream, self.services.metrics)
        if self._is_v1:
            self.viewer = ProtocolViewer(self, room, send_queue, self._options)
        else:
            self.viewer = PlainViewer(self, room, send_queue)
        self.services.rooms.join(room, self.viewer)
        log.debug("%s joined, %s", self.request_id, self._protocol_name())
        self.viewer.begin()
        self._forget_handshake()

    def _forget_handshake(self) -> None:
        """Some 3 kB for each viewer, the token among them."""
        request = self.request
        # Tornado's connection holds them, too; clear() would leave the tables of their dicts.
        HTTPHeaders.__init__(request.headers)
        self._headers = NO_HEADERS
        request.arguments = request.query_arguments = request.body_arguments = NO_ARGUMENTS
        request.uri, request.query = request.path, ""
        self.ui.clear()

    def on_message(self, message: str | bytes) -> None:
        if self.viewer is not None and not self._closing:
            self.viewer.heard()
            self.viewer.received(message)

    def on_ping(self, _: bytes) -> None:
        """Tornado answers it, some of them later than now."""
        if self.viewer is not None:
            self.viewer.send_queue.share()

    def on_pong(self, _: bytes) -> None:
        if self.viewer is not None:
            self.viewer.heard()

    def close_with(self, code: CloseCode) -> None:
        """Once: after our close frame nothing may follow, so leave the room first."""
        if self._closing:
            return
        self._closing = True
        self.services.metrics.closed.labels(code.code).inc()
        log.debug("%s closed: %d %s", self.request_id, *code)
        self._leave()
        self.close(code.code, code.reason)

    def on_close(self) -> None:
        self._leave()

    def _leave(self) -> None:
        """Idempotent: every way that a connection can end comes here, some twice."""
        room, self._room = self._room, None
        if room is None:
            return
        if self.viewer is None:
            self.services.rooms.quit(room)
        else:
            log.debug("%s left", self.request_id)
            self.viewer.end()
            self.services.rooms.leave(room, self.viewer)


def _is_key(text: str) -> bool:
    """A nonce of 16 bytes."""
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
