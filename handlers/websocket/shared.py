"""`/ws/shared/{token}`: `tracking.v1` for whoever has a share link. IOLoop thread."""

from handlers.client_address import network_of
from handlers.limits import Slot
from handlers.link_handler import LinkHandler
from handlers.websocket.admission import check_subprotocols, enter, join_options
from handlers.websocket.handshake import StreamHandler
from handlers.websocket.shared_viewer import SharedViewer
from tracking.domain.shares import OpenShare
from tracking.errors import InvalidRequest
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue


class SharedStreamHandler(LinkHandler, StreamHandler):
    """Its viewers' messages name nobody."""

    route = "/ws/shared/{token}"

    share: OpenShare

    async def admit(self, *path: str) -> Slot:
        """Check in the order 429, 400, 503, 404, then enter the room of the link's booking."""
        limits, address = self.services.limits, network_of(self.client_address)
        limits.count_join(address)
        self._options = join_options(self)
        check_subprotocols(self.subprotocols())
        if not self._is_named:
            raise InvalidRequest(f"a share link speaks the subprotocol {self.subprotocol}")
        self.share = await self.opened(*path)
        slot = limits.acquire_for_link(self.share.id, address)
        try:
            if self._options.since_seq is None:  # else it looked before
                await self.count(self.share)
            self._room = await enter(self, self.share.booking_id)
        except BaseException:
            limits.release(slot)
            raise
        return slot

    def new_viewer(self, room: Room, send_queue: SendQueue) -> SharedViewer:
        """The link was open a moment ago, and is looked at again within the next."""
        return SharedViewer(self, room, self.share, send_queue, self._options)

    def note_access(self) -> None:
        self.services.access_log.note_link(self.share.id, self.share.booking_id, "socket")

    def _protocol_name(self) -> str:
        return "shared" if self._is_named else "plain"
