"""A viewer to whom a trip is shown again, in `tracking.v1`. IOLoop thread."""

from handlers.websocket.replay_admission import ReplayAdmission
from handlers.websocket.replaying import Replaying
from handlers.websocket.talking_viewer import TalkingViewer
from handlers.websocket.viewers import Handler
from tracking.domain.access import Principal, may_watch
from tracking.live.replays import ReplayRecipient
from tracking.live.send_queue import SendQueue
from tracking.wire import replay_protocol
from tracking.wire.protocol import Refresh
from tracking.wire.replay_protocol import Pause, Resume, Seek, Speed


class ReplayViewer(TalkingViewer):
    """Its client says how fast, and from where on."""

    __slots__ = ("replaying",)

    subscriber: ReplayRecipient

    def __init__(self, handler: Handler, admission: ReplayAdmission, send_queue: SendQueue) -> None:
        replays = handler.services.replays
        recipient = ReplayRecipient(
            replays, self, admission.principal, send_queue, self.start, admission.part.booking_id
        )
        super().__init__(handler, recipient)
        self.replaying = Replaying(handler.services, admission, recipient)
        replays.join(recipient)

    def start(self) -> None:
        """After the upgrade."""
        self.replaying.start()

    def stop(self) -> None:
        self.replaying.cancel()

    def understand(self, message: str | bytes) -> None:
        """A `catch_up` is understood, and nothing follows: a replay leaves nothing out."""
        request = replay_protocol.client_message(message)
        if isinstance(request, Refresh):
            self.refresh(request.token)
        elif isinstance(request, Seek):
            self.replaying.seek(replay_protocol.sought(request))
        elif isinstance(request, Speed):
            self.replaying.set_speed(request.speed)
        elif isinstance(request, Pause):
            self.replaying.pause()
        elif isinstance(request, Resume):
            self.replaying.resume()

    def may_stay(self, principal: Principal) -> bool:
        return may_watch(principal, self.replaying.access)
