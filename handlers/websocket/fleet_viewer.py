"""A viewer that speaks `fleet.v1`. IOLoop thread."""

from handlers.websocket.talking_viewer import TalkingViewer
from handlers.websocket.viewers import Handler
from tracking.domain.access import Principal, may_watch_all
from tracking.live.fleet_subscriber import FleetSubscriber
from tracking.live.send_queue import SendQueue
from tracking.wire import fleet_protocol


class FleetViewer(TalkingViewer):
    """All active trips; its client may only refresh its token."""

    __slots__ = ()

    subscriber: FleetSubscriber

    def __init__(
        self,
        handler: Handler,
        principal: Principal,
        send_queue: SendQueue,
        epoch: str | None,
        since: int | None,
    ) -> None:
        fleet = handler.services.fleet
        subscriber = FleetSubscriber(fleet, self, principal, send_queue, epoch, since)
        super().__init__(handler, subscriber)

    def understand(self, message: str | bytes) -> None:
        self.refresh(fleet_protocol.client_message(message).token)

    def may_stay(self, principal: Principal) -> bool:
        return may_watch_all(principal)

    def tick(self, now: float) -> None:
        if self.subscriber.send_queue.is_busy:
            self.heard()  # a ping waits behind the page: how long that may take has its own limit
        super().tick(now)
