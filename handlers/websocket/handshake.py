"""`/ws/tracking/{bookingId}`: the life of a connection, from its upgrade to its end. IOLoop thread.

Everything is checked before the upgrade (`admission`). On the plain stream a rejection is an HTTP
status; a browser cannot read that, so `tracking.v1` is upgraded and closed with its code.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from tornado.httputil import HTTPHeaders
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from handlers.base import BaseHandler
from handlers.limits import Slot
from handlers.rejections import rejection_of
from handlers.websocket.admission import WEBSOCKET_VERSION, admit, check_access, check_upgrade
from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.frames import StrictProtocol
from handlers.websocket.protocol_viewer import ProtocolViewer
from handlers.websocket.viewers import PlainViewer, Viewer
from tracking.domain.access import Principal
from tracking.errors import InvalidRequest, NotFound, TrackingError
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode
from tracking.wire.protocol import SUBPROTOCOL

log = logging.getLogger("tracking.stream")

# Left to itself the kernel keeps megabytes for a viewer that stopped reading; doubled by Linux.
SEND_BUFFER_BYTES: Final = 64 << 10
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
        "_rejected_with",
        "_room",
        "_slot",
        "booking_id",
        "principal",
        "viewer",
    )

    route = "/ws/tracking/{bookingId}"

    booking_id: UUID
    principal: Principal

    def initialize(self) -> None:
        self._slot: Slot | None = None
        self._rejected_with: CloseCode | None = None
        self._closing = False
        self._is_v1 = SUBPROTOCOL in self.subprotocols()
        self._room: Room | None = None
        self._options = JoinOptions()
        self.viewer: Viewer | None = None

    def prepare(self) -> None:
        """Joins have a limit of their own."""

    def head(self, *_: str) -> None:
        raise InvalidRequest("a WebSocket upgrade is expected here")

    async def get(self, text: str) -> None:
        """Returns when the connection has ended."""
        check_upgrade(self.request)
        try:
            try:
                await self._admit(text)
            except TrackingError as error:
                if not self._is_v1:
                    raise
                self._rejected_with = rejection_of(error).close_code
            await super().get(text)
        finally:
            self._leave()
            if self._slot is not None:
                self.services.limits.release(self._slot)

    async def _admit(self, text: str) -> None:
        with self._counted():
            admission = await admit(self, text)
        self.principal, self.booking_id = admission.principal, admission.booking_id
        self._options, self._slot, self._room = admission.options, admission.slot, admission.room

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
            outcome = rejection_of(error).outcome
            raise
        finally:
            self.services.metrics.joins.labels(self._protocol_name(), outcome).inc()

    def _protocol_name(self) -> str:
        return SUBPROTOCOL if self._is_v1 else "plain"

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
        if room is not None:
            try:
                check_access(self.principal, room)
            except NotFound:
                self._rejected_with = close_codes.NOT_FOUND
        if self._rejected_with is not None or room is None:
            self.close_with(self._rejected_with or close_codes.INTERNAL)
            return
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        send_queue = SendQueue(stream, self.services.metrics)
        viewer: Viewer
        if self._is_v1:
            viewer = ProtocolViewer(self, room, self.principal, send_queue, self._options)
        else:
            viewer = PlainViewer(self, room, self.principal, send_queue)
        self.viewer = viewer
        self.services.rooms.join(viewer.subscriber)
        log.debug("%s joined, %s", self.request_id, self._protocol_name())
        viewer.subscriber.begin()
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
            try:
                self.viewer.received(message)
            except Exception as error:
                self.viewer.subscriber.fail(error)

    def on_ping(self, _: bytes) -> None:
        """Tornado answers it, some of them later than now."""
        if self.viewer is not None:
            self.viewer.subscriber.send_queue.share()

    def on_pong(self, _: bytes) -> None:
        if self.viewer is not None:
            self.viewer.heard()

    def close_with(self, code: CloseCode) -> None:
        """Leave the room first: nothing may follow the close frame. Idempotent."""
        if self.viewer is None:
            self.send_close(code)
        else:
            self.viewer.subscriber.end(code)

    def send_close(self, code: CloseCode) -> None:
        """Count it and write the close frame. Once: its viewer has left."""
        if self._closing:
            return
        self._closing = True
        self.services.metrics.closed.labels(code.code).inc()
        log.debug("%s closed: %d %s", self.request_id, *code)
        self.close(code.code, code.reason)

    def on_close(self) -> None:
        self._leave()

    def _leave(self) -> None:
        """Idempotent: every way that a connection can end comes here, some twice."""
        room, self._room = self._room, None
        if room is None:
            return
        if self.viewer is None:
            self.services.rooms.withdraw(room)
        else:
            log.debug("%s left", self.request_id)
            self.viewer.leave()
