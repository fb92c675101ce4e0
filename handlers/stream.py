"""`/ws/tracking/{bookingId}`: the handshake, and the life of a connection. IOLoop thread.

Everything is checked before the upgrade. On the plain stream a refusal is an HTTP status; a browser
cannot read that, so `tracking.v1` is upgraded and closed with the refusal's code.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from tornado.websocket import WebSocketHandler

from handlers.base import SUBPROTOCOL_TOKEN, BaseHandler, booking_id_of
from handlers.limits import Place
from handlers.outlet import Outlet
from handlers.protocol_viewer import ProtocolViewer, Wish
from handlers.viewers import PlainViewer, Viewer
from tracking import close_codes
from tracking.access import Principal, may_watch
from tracking.close_codes import CloseCode
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
from tracking.protocol import MAX_SEQ, SUBPROTOCOL
from tracking.rooms import Room, Rooms
from tracking.store.live import LiveState, live_state
from tracking.store.tracks import BookingAccess

CODE_OF: Final[Mapping[type[TrackingError], CloseCode]] = {
    InvalidRequest: close_codes.BAD_REQUEST,
    InvalidToken: close_codes.INVALID_TOKEN,
    NotFound: close_codes.NOT_FOUND,
    DatabaseUnavailable: close_codes.OVERLOADED,
    Overloaded: close_codes.OVERLOADED,
    TooManyRequests: close_codes.TOO_MANY,
    TooManyConnections: close_codes.TOO_MANY_CONNECTIONS,
}
# A client may ask for a position every ten minutes at the least.
MAX_INTERVAL_MS: Final = 600_000
TICK_S: Final = 1.0
# Viewers that are looked at before the loop may do something else.
TICK_SLICE: Final = 500
# A stopping server lets its viewers go over so long.
DRAIN_SPREAD_S: Final = 3.0


class StreamHandler(BaseHandler, WebSocketHandler):
    """One connection; what it is told is its viewer's business."""

    route = "/ws/tracking/{bookingId}"

    booking_id: UUID
    principal: Principal

    def initialize(self) -> None:
        self._place: Place | None = None
        self._refusal: CloseCode | None = None
        self._room: Room | None = None
        self._wish = Wish()
        self.viewer: Viewer | None = None

    async def get(self, text: str) -> None:
        """Returns when the connection has ended."""
        try:
            try:
                await self._check(text)
            except TrackingError as error:
                if not self._speaks_v1():
                    raise
                self._refusal = CODE_OF[type(error)]
            await super().get(text)
        finally:
            self._leave()
            if self._place is not None:
                self.services.limits.give_back(self._place)

    async def _check(self, text: str) -> None:
        """In the order 429, 401, 400, 503, 404; then the room is entered."""
        services = self.services
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequest("a WebSocket upgrade is expected here")
        address = self.request.remote_ip or ""
        services.limits.admit(address)
        self.principal = services.tokens.principal(self.token())
        self.booking_id = booking_id_of(text)
        self._wish = self._wish_of_query()
        if any(name != SUBPROTOCOL for name in self._real_subprotocols()):
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

    def _wish_of_query(self) -> Wish:
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
        return Wish(
            epoch=self.get_query_argument("epoch", None),
            since_seq=None if since is None else int(since),
            history=history == "all",
            min_interval_s=interval_ms / 1000,
        )

    def _real_subprotocols(self) -> list[str]:
        return [name for name in self.subprotocols() if not name.startswith(SUBPROTOCOL_TOKEN)]

    def _speaks_v1(self) -> bool:
        return SUBPROTOCOL in self._real_subprotocols()

    def check_origin(self, origin: str) -> bool:
        """Any, until there is a list: access comes from the token, never from a cookie."""
        allowed = self.services.settings.allowed_origins
        return not allowed or "*" in allowed or origin in allowed

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """The real one; a browser that offered only its token gets that, or it would hang up."""
        if SUBPROTOCOL in subprotocols:
            return SUBPROTOCOL
        return subprotocols[0] if subprotocols else None

    def open(self, *_: str, **__: str) -> None:
        """Join the room and begin."""
        assert self.ws_connection is not None
        self.set_nodelay(True)
        room = self._room
        if self._refusal is None and room is not None:
            try:
                self._check_access(room)
            except NotFound:
                self._refusal = close_codes.NOT_FOUND
        if self._refusal is not None or room is None:
            self.close_with(self._refusal or close_codes.INTERNAL)
            return
        stream = self.ws_connection.stream
        assert stream is not None
        outlet = Outlet(stream, self.services.metrics)
        if self._speaks_v1():
            self.viewer = ProtocolViewer(self, room, outlet, self._wish)
        else:
            self.viewer = PlainViewer(self, room, outlet)
        self.services.rooms.join(room, self.viewer)
        self.viewer.begin()
        self._forget_handshake()

    def _forget_handshake(self) -> None:
        """Some 3 kB for each viewer, the token among them; the access log needs the path only."""
        request = self.request
        request.headers.clear()
        request.arguments, request.query_arguments, request.body_arguments = {}, {}, {}
        request.uri, request.query = request.path, ""
        self._headers.clear()
        self.ui.clear()

    def on_message(self, message: str | bytes) -> None:
        if self.viewer is not None:
            self.viewer.heard()
            self.viewer.received(message)

    def on_ping(self, _: bytes) -> None:
        """Tornado answers it, some of them later than now."""
        if self.viewer is not None:
            self.viewer.outlet.share()

    def on_pong(self, _: bytes) -> None:
        if self.viewer is not None:
            self.viewer.heard()

    def close_with(self, code: CloseCode) -> None:
        """After our close frame nothing may follow: leave the room first."""
        self.services.metrics.closed.labels(code.code).inc()
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
            self.viewer.end()
            self.services.rooms.leave(room, self.viewer)


async def attend(rooms: Rooms) -> None:
    """Look at every viewer once a second, until cancelled: pings, ends, heartbeats."""
    while True:
        await asyncio.sleep(TICK_S)
        now = time.monotonic()
        for count, viewer in enumerate(list(rooms.everybody()), 1):
            if isinstance(viewer, Viewer):
                viewer.tick(now)
            if count % TICK_SLICE == 0:
                await asyncio.sleep(0)


async def close_all(rooms: Rooms) -> None:
    """Tell everybody to come back to another process, spread so that they don't come at once."""
    viewers = list(rooms.everybody())
    pause = min(DRAIN_SPREAD_S / max(len(viewers), 1), 0.01)
    for viewer in viewers:
        if isinstance(viewer, Viewer):
            viewer.connection.close_with(close_codes.GOING_AWAY)
        await asyncio.sleep(pause)
