"""`/ws/tracking/{bookingId}`: a viewer of one booking. IOLoop thread.

Without a subprotocol this is the plain stream, whose rejections are HTTP statuses.
"""

from uuid import UUID

from handlers.limits import Slot
from handlers.websocket.admission import admit, check_access
from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.protocol_viewer import ProtocolViewer
from handlers.websocket.replay_admission import ReplayAdmission, admit_replay, is_replay
from handlers.websocket.replay_viewer import ReplayViewer
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

    __slots__ = ("_options", "_replay", "_room", "booking_id", "principal")

    route = "/ws/tracking/{bookingId}"
    subprotocol = SUBPROTOCOL

    booking_id: UUID
    principal: Principal

    def initialize(self) -> None:
        super().initialize()
        self._room: Room | None = None
        self._options = JoinOptions()
        self._replay: ReplayAdmission | None = None  # which will join, or is withdrawn

    async def admit(self, *path: str) -> Slot:
        if is_replay(self):
            self._replay = await admit_replay(self, *path)
            return self._replay.slot
        admission = await admit(self, *path)
        self.principal, self.booking_id = admission.principal, admission.booking_id
        self._options, self._room = admission.options, admission.room
        return admission.slot

    def enter(self, send_queue: SendQueue) -> Viewer | CloseCode:
        replay, self._replay = self._replay, None
        if replay is not None:
            log = self.services.access_log
            log.note(replay.principal, replay.part.booking_id, "replay")
            return ReplayViewer(self, replay, send_queue)
        room = self._room
        if room is None:
            return close_codes.INTERNAL
        if room.is_erased:
            return close_codes.NOT_FOUND  # `withdraw` follows
        try:
            viewer = self.new_viewer(room, send_queue)
        except NotFound:
            return close_codes.NOT_FOUND
        self.services.rooms.join(viewer.subscriber)
        self.note_access()
        self._room = None  # joined: its subscriber leaves it
        return viewer

    def new_viewer(self, room: Room, send_queue: SendQueue) -> PlainViewer | ProtocolViewer:
        """Raises NotFound when the booking has changed meanwhile."""
        check_access(self.principal, room)
        if self._is_named:
            return ProtocolViewer(self, room, self.principal, send_queue, self._options)
        return PlainViewer(self, room, self.principal, send_queue)

    def note_access(self) -> None:
        """Somebody looks."""
        self.services.access_log.note(self.principal, self.booking_id, "socket")

    def withdraw(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            self.services.rooms.withdraw(room)
        replay, self._replay = self._replay, None
        if replay is not None:
            self.services.replays.release(replay.principal.user_id)
