"""`/ws/tracking/{bookingId}`: a viewer of one booking. IOLoop thread.

Without a subprotocol this is the plain stream, whose rejections are HTTP statuses.
"""

from uuid import UUID

from handlers.limits import Slot
from handlers.websocket.admission import admit, check_access
from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.protocol_viewer import ProtocolViewer
from handlers.websocket.socket_handler import SocketHandler
from handlers.websocket.viewers import PlainViewer, Viewer
from tracking.domain.access import Principal
from tracking.errors import NotFound
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode
from tracking.wire.protocol import SUBPROTOCOL


class StreamHandler(SocketHandler):
    """It enters the room of its booking, and joins it after the upgrade."""

    __slots__ = ("_options", "_room", "booking_id", "principal")

    route = "/ws/tracking/{bookingId}"
    subprotocol = SUBPROTOCOL

    booking_id: UUID
    principal: Principal

    def initialize(self) -> None:
        super().initialize()
        self._room: Room | None = None
        self._options = JoinOptions()

    async def admit(self, *path: str) -> Slot:
        admission = await admit(self, *path)
        self.principal, self.booking_id = admission.principal, admission.booking_id
        self._options, self._room = admission.options, admission.room
        return admission.slot

    def enter(self, send_queue: SendQueue) -> Viewer | CloseCode:
        room = self._room
        if room is None:
            return close_codes.INTERNAL
        try:
            viewer = self.new_viewer(room, send_queue)
        except NotFound:
            return close_codes.NOT_FOUND
        self.services.rooms.join(viewer.subscriber)
        self._room = None  # joined: its subscriber leaves it
        return viewer

    def new_viewer(self, room: Room, send_queue: SendQueue) -> PlainViewer | ProtocolViewer:
        """Raises NotFound when the booking has changed meanwhile."""
        check_access(self.principal, room)
        if self._is_named:
            return ProtocolViewer(self, room, self.principal, send_queue, self._options)
        return PlainViewer(self, room, self.principal, send_queue)

    def withdraw(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            self.services.rooms.withdraw(room)
