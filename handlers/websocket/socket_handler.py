"""The life of a WebSocket, from its upgrade to its end, whatever it carries. IOLoop thread.

Everything is checked before the upgrade. A browser cannot read the HTTP status of a rejected
handshake: a client that names its subprotocol is upgraded and closed with a code instead.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tornado.httputil import HTTPHeaders
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from handlers.base import BaseHandler
from handlers.limits import Slot
from handlers.rejections import rejection_of
from handlers.websocket.admission import WEBSOCKET_VERSION, check_upgrade
from handlers.websocket.frames import StrictProtocol
from handlers.websocket.viewers import Viewer
from tracking.errors import InvalidRequest, TrackingError
from tracking.live.send_queue import SendQueue
from tracking.wire.close_codes import CloseCode

log = logging.getLogger("tracking.stream")

# Left to itself the kernel keeps megabytes for a viewer that stopped reading; doubled by Linux.
SEND_BUFFER_BYTES: Final = 64 << 10
# What is left of a handshake, the same for all: nobody writes to it after the upgrade.
NO_HEADERS: Final = HTTPHeaders()
NO_ARGUMENTS: Final[dict[str, list[bytes]]] = {}


class SocketHandler(BaseHandler, WebSocketHandler):
    """One connection; what it is told is its viewer's business."""

    # More than 30 attributes in an object's dict cost 1.3 kB: Tornado has 27.
    __slots__ = ("_closing", "_has_left", "_is_named", "_rejected_with", "_slot", "viewer")

    subprotocol: str

    def initialize(self) -> None:
        self._slot: Slot | None = None
        self._rejected_with: CloseCode | None = None
        self._closing = self._has_left = False
        self._is_named = self.subprotocol in self.subprotocols()
        self.viewer: Viewer | None = None

    async def admit(self, *path: str) -> Slot:
        """Check everything; raises TrackingError, then nothing is held."""
        raise NotImplementedError

    def enter(self, send_queue: SendQueue) -> Viewer | CloseCode:
        """After the upgrade: the viewer, which has joined; or why it may not any more."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """It was admitted and will not join. Idempotent."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Joins have a limit of their own."""

    def head(self, *_: str) -> None:
        raise InvalidRequest("a WebSocket upgrade is expected here")

    async def get(self, *path: str) -> None:
        """Returns when the connection has ended."""
        check_upgrade(self.request)
        try:
            try:
                with self._counted():
                    self._slot = await self.admit(*path)
            except TrackingError as error:
                if not self._is_named:
                    raise
                self._rejected_with = rejection_of(error).close_code
            await super().get(*path)
        finally:
            self._leave()
            if self._slot is not None:
                self.services.limits.release(self._slot)

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
        return self.subprotocol if self._is_named else "plain"

    def check_origin(self, origin: str) -> bool:
        """Any, until there is a list: access comes from the token, never from a cookie.

        Tornado asks only about others than our own pages.
        """
        allowed = self.services.settings.allowed_origins
        return not allowed or "*" in allowed or origin in allowed

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The real one; a browser that offered only its token gets that, or it would hang up."""
        if self.subprotocol in subprotocols:
            return self.subprotocol
        return subprotocols[0] if subprotocols else None

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        protocol = super().get_websocket_protocol()
        if isinstance(protocol, WebSocketProtocol13):
            return StrictProtocol(self, protocol.params, self.close_with)
        return protocol

    def open(self, *_: str, **__: str) -> None:
        """Enter and begin."""
        assert self.ws_connection is not None
        stream = self.ws_connection.stream
        if stream is None or stream.closed():
            return  # it has gone before it was let in: `get` ends, and withdraws
        self.set_nodelay(True)  # Tornado has turned it off behind its answer
        if self._rejected_with is not None:
            self.close_with(self._rejected_with)
            return
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        entered = self.enter(SendQueue(stream, self.services.metrics))
        if isinstance(entered, CloseCode):
            self.close_with(entered)
            return
        self.viewer = entered
        log.debug("%s joined, %s", self.request_id, self._protocol_name())
        entered.subscriber.begin()
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
        """Leave first: nothing may follow the close frame. Idempotent."""
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
        if self.viewer is None:
            self.withdraw()
        elif not self._has_left:
            self._has_left = True
            log.debug("%s left", self.request_id)
            self.viewer.leave()
