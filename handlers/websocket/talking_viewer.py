"""A viewer whose client talks: what it says, its token's end, heartbeats. IOLoop thread."""

import asyncio
from typing import Final

from handlers.rejections import rejection_of
from handlers.websocket.viewers import Handler, Viewer
from tracking.domain.access import Principal
from tracking.domain.times import rfc3339
from tracking.errors import InvalidToken, TrackingError
from tracking.live.recipient import Recipient, State
from tracking.wire import close_codes, protocol

# The client is told so long before its token ends.
EXPIRY_NOTICE_S: Final = 30.0
# A client asks now and then: so many messages at once, and one more a second.
MESSAGE_BURST: Final = 20
MESSAGE_RATE: Final = 1.0


class TalkingViewer(Viewer):
    """What `tracking.v1` and `fleet.v1` have in common."""

    __slots__ = ("_allowance", "_asked_at", "_is_notified")

    def __init__(self, handler: Handler, subscriber: Recipient) -> None:
        super().__init__(handler, subscriber)
        self._is_notified = False  # that its token ends soon
        self._allowance, self._asked_at = float(MESSAGE_BURST), 0.0

    def understand(self, message: str | bytes) -> None:
        """Do what the client asks; raises TrackingError."""
        raise NotImplementedError

    def may_stay(self, principal: Principal) -> bool:
        """Whether a new token opens what the client watches."""
        raise NotImplementedError

    def received(self, message: str | bytes) -> None:
        """Short, and never waits: Tornado reads no pong meanwhile."""
        if not self._may_ask():
            self.subscriber.end(close_codes.TOO_MANY)
            return
        try:
            self.understand(message)
        except TrackingError as error:
            self.subscriber.end(rejection_of(error).close_code)

    def _may_ask(self) -> bool:
        now = asyncio.get_running_loop().time()
        earned = (now - self._asked_at) * MESSAGE_RATE
        self._allowance = min(self._allowance + earned, float(MESSAGE_BURST)) - 1
        self._asked_at = now
        return self._allowance >= 0

    def refresh(self, token: str) -> None:
        """Another token of the same user, who may still watch."""
        subscriber = self.subscriber
        principal = self.handler.services.tokens.principal(token)
        is_same = principal.user_id == subscriber.principal.user_id
        if not is_same or not self.may_stay(principal):
            raise InvalidToken("another user's token")
        subscriber.principal = principal
        self.expects(principal)
        self._is_notified = False
        subscriber.tell(self._heartbeat())

    def _heartbeat(self) -> bytes:
        at = rfc3339(self.subscriber.principal.expires_at)
        return protocol.frame_of(protocol.Heartbeat(at))

    def tick(self, now: float) -> None:
        super().tick(now)
        subscriber = self.subscriber
        if subscriber.state in (State.JOINING, State.ENDED):
            return  # `welcome` is the first message
        self._notify_of_expiry(now)
        if now - subscriber.last_sent >= protocol.HEARTBEAT_S:
            subscriber.tell(self._heartbeat())

    def _notify_of_expiry(self, now: float) -> None:
        if self.expires_at - now < EXPIRY_NOTICE_S and not self._is_notified:
            self._is_notified = True
            at = rfc3339(self.subscriber.principal.expires_at)
            self.subscriber.tell(protocol.frame_of(protocol.TokenExpiring(at)))
