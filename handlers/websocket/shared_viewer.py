"""A viewer who looks through a share link. IOLoop thread."""

from datetime import datetime

from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.protocol_viewer import ProtocolViewer
from handlers.websocket.viewers import Handler
from tracking.domain.access import Principal
from tracking.domain.shares import OpenShare
from tracking.errors import InvalidRequest
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue
from tracking.live.views import view_of
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode

# Nobody's: `may_watch` knows no such role.
ROLE = "link"


class SharedViewer(ProtocolViewer):
    """`tracking.v1` without a token to renew: what ends is the link, and then with 4503."""

    __slots__ = ("share_id",)

    def __init__(
        self,
        handler: Handler,
        room: Room,
        share: OpenShare,
        send_queue: SendQueue,
        options: JoinOptions,
    ) -> None:
        self.share_id = share.id
        principal = Principal(share.id, ROLE, share.expires_at)
        view = view_of(share.from_pickup)
        super().__init__(handler, room, principal, send_queue, options, view)
        handler.services.link_viewers.add(self)

    def stop(self) -> None:
        super().stop()
        self.handler.services.link_viewers.remove(self)

    def close(self, code: CloseCode) -> None:
        """The link is over, or nobody knows."""
        try:
            self.subscriber.end(code)
        except Exception as error:
            self.subscriber.fail(error)

    def renew(self, expires_at: datetime) -> None:
        """Its owner gave it another end: told at once."""
        principal = self.subscriber.principal
        if expires_at == principal.expires_at:
            return
        self.subscriber.principal = Principal(principal.user_id, ROLE, expires_at)
        self.expects(self.subscriber.principal)
        try:
            self.subscriber.tell(self._heartbeat())
        except Exception as error:
            self.subscriber.fail(error)

    def refresh(self, _: str) -> None:
        raise InvalidRequest("a share link has no token to renew")

    def _notify_of_expiry(self, _: float) -> None:
        """It could do nothing about it."""

    def _reason_to_end(self, now: float) -> CloseCode | None:
        code = super()._reason_to_end(now)
        return close_codes.NOT_FOUND if code is close_codes.TOKEN_EXPIRED else code
