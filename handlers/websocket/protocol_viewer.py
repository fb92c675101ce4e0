"""A viewer that speaks `tracking.v1`. IOLoop thread."""

from handlers.websocket.catch_up import CatchUp, JoinOptions
from handlers.websocket.talking_viewer import TalkingViewer
from handlers.websocket.viewers import Handler
from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.live.protocol_subscriber import ProtocolSubscriber
from tracking.live.room import Room
from tracking.live.send_queue import SendQueue
from tracking.live.views import EVERYTHING, View
from tracking.wire import protocol


class ProtocolViewer(TalkingViewer):
    """`tracking.v1`."""

    __slots__ = ("catch_up",)

    subscriber: ProtocolSubscriber

    def __init__(
        self,
        handler: Handler,
        room: Room,
        principal: Principal,
        send_queue: SendQueue,
        options: JoinOptions,
        view: View = EVERYTHING,
    ) -> None:
        self.catch_up = CatchUp(handler.services, options)
        self.catch_up.subscriber = ProtocolSubscriber(
            room, self, principal, send_queue, options.min_interval_s, self.catch_up.start, view
        )
        super().__init__(handler, self.catch_up.subscriber)

    def stop(self) -> None:
        self.catch_up.cancel()

    def understand(self, message: str | bytes) -> None:
        request = protocol.client_message(message)
        if isinstance(request, protocol.Refresh):
            self.refresh(request.token)
        elif isinstance(request, protocol.CatchUp):
            self.catch_up.answer(request.since_seq)

    def may_stay(self, principal: Principal) -> bool:
        state = self.subscriber.room.state
        assert state is not None
        access = BookingAccess(state.booking_id, state.owner_id, state.runner_id)
        return may_watch(principal, access)
