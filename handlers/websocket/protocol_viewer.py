"""A viewer that speaks `tracking.v1`: what its client says, its token's end, heartbeats.

IOLoop thread.
"""

import asyncio
from typing import Final

from handlers.rejections import rejection_of
from handlers.websocket.catch_up import CatchUp, JoinOptions
from handlers.websocket.viewers import Handler, Viewer
from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.domain.times import rfc3339
from tracking.errors import InvalidToken, TrackingError
from tracking.live.protocol_subscriber import ProtocolSubscriber
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue
from tracking.live.subscriber import State
from tracking.wire import close_codes, protocol

# The client is told so long before its token ends.
EXPIRY_NOTICE_S: Final = 30.0
# A client asks now and then: so many messages at once, and one more a second.
MESSAGE_BURST: Final = 20
MESSAGE_RATE: Final = 1.0


class ProtocolViewer(Viewer):
    """`tracking.v1`."""

    __slots__ = ("_allowance", "_asked_at", "_is_notified", "catch_up")

    def __init__(
        self,
        handler: Handler,
        room: Room,
        principal: Principal,
        send_queue: SendQueue,
        options: JoinOptions,
    ) -> None:
        self.catch_up = CatchUp(handler.services, options)
        self.catch_up.subscriber = ProtocolSubscriber(
            room, self, principal, send_queue, options.min_interval_s, self.catch_up.start
        )
        super().__init__(handler, self.catch_up.subscriber)
        self._is_notified = False  # that its token ends soon
        self._allowance, self._asked_at = float(MESSAGE_BURST), 0.0

    def stop(self) -> None:
        self.catch_up.cancel()

    def received(self, message: str | bytes) -> None:
        """Short, and never waits: Tornado reads no pong meanwhile."""
        if not self._may_ask():
            self.subscriber.end(close_codes.TOO_MANY)
            return
        try:
            request = protocol.client_message(message)
            if isinstance(request, protocol.Refresh):
                self._refresh(request.token)
            elif isinstance(request, protocol.CatchUp):
                self.catch_up.answer(request.since_seq)
        except TrackingError as error:
            self.subscriber.end(rejection_of(error).close_code)

    def _may_ask(self) -> bool:
        now = asyncio.get_running_loop().time()
        earned = (now - self._asked_at) * MESSAGE_RATE
        self._allowance = min(self._allowance + earned, float(MESSAGE_BURST)) - 1
        self._asked_at = now
        return self._allowance >= 0

    def _refresh(self, token: str) -> None:
        """Another token of the same user, who may still watch."""
        subscriber = self.catch_up.subscriber
        principal = self.handler.services.tokens.principal(token)
        state = subscriber.room.state
        assert state is not None
        access = BookingAccess(state.booking_id, state.owner_id, state.runner_id)
        is_same = principal.user_id == subscriber.principal.user_id
        if not is_same or not may_watch(principal, access):
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
        subscriber = self.catch_up.subscriber
        if subscriber.state in (State.JOINING, State.ENDED):
            return  # `welcome` is the first message
        if self.expires_at - now < EXPIRY_NOTICE_S and not self._is_notified:
            self._is_notified = True
            at = rfc3339(subscriber.principal.expires_at)
            subscriber.tell(protocol.frame_of(protocol.TokenExpiring(at)))
        if now - subscriber.last_sent >= protocol.HEARTBEAT_S:
            subscriber.tell(self._heartbeat())
