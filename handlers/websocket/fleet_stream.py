"""`/ws/fleet`: a viewer of all active trips. IOLoop thread."""

from functools import partial

from handlers.base import SUBPROTOCOL_TOKEN
from handlers.client_address import network_of
from handlers.limits import Slot
from handlers.websocket.fleet_viewer import FleetViewer
from handlers.websocket.socket_handler import SocketHandler
from handlers.websocket.viewers import Viewer
from tracking.domain.access import Principal, may_watch_all
from tracking.errors import InvalidRequest, NotFound
from tracking.live.send_queue import SendQueue
from tracking.store.read.active_trips import active_trips
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode
from tracking.wire.fleet_protocol import SUBPROTOCOL
from tracking.wire.protocol import MAX_SEQ


class FleetHandler(SocketHandler):
    """Admins only: to everybody else it is not there."""

    __slots__ = ("_epoch", "_has_entered", "_principal", "_since")

    route = "/ws/fleet"
    subprotocol = SUBPROTOCOL

    _principal: Principal

    def initialize(self) -> None:
        super().initialize()
        self._has_entered = False  # and will join, or withdraw
        self._epoch: str | None = None
        self._since: int | None = None

    async def admit(self, *_: str) -> Slot:
        """Check in the order 429, 401, 404, 400, 503."""
        services, address = self.services, network_of(self.client_address)
        services.limits.count_join(address)
        principal = await services.tokens.principal_once_renewed(self.token())
        if not may_watch_all(principal):
            raise NotFound("not found")
        self._read_query()
        slot = services.limits.acquire(principal.user_id, address)
        try:
            await services.fleet.enter(partial(services.read, active_trips))
        except BaseException:
            services.limits.release(slot)
            raise
        self._principal, self._has_entered = principal, True
        return slot

    def _read_query(self) -> None:
        others = [name for name in self.subprotocols() if not name.startswith(SUBPROTOCOL_TOKEN)]
        if others != [SUBPROTOCOL]:
            raise InvalidRequest(f"the WebSocket subprotocol {SUBPROTOCOL} is expected here")
        self._epoch = self.get_query_argument("epoch", None)
        if self.get_query_argument("version", None) is not None:
            self._since = self.whole_number("version", 0)
            if self._since > MAX_SEQ:
                raise InvalidRequest("version is out of range")

    def enter(self, send_queue: SendQueue) -> Viewer | CloseCode:
        if not self._has_entered:
            return close_codes.INTERNAL
        viewer = FleetViewer(self, self._principal, send_queue, self._epoch, self._since)
        self.services.fleet.join(viewer.subscriber)
        self.services.access_log.note(self._principal, None, "fleet")
        self._has_entered = False
        return viewer

    def withdraw(self) -> None:
        if self._has_entered:
            self._has_entered = False
            self.services.fleet.withdraw()
