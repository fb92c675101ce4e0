"""A viewer that speaks `fleet.v1`. IOLoop thread."""

import time
from datetime import UTC, datetime
from typing import Final

from handlers.websocket.talking_viewer import TalkingViewer
from handlers.websocket.viewers import Handler
from tracking.domain.access import Principal, may_watch_all
from tracking.live.fleet_subscriber import FleetSubscriber
from tracking.live.send_queue import SendQueue
from tracking.wire import fleet_protocol

# How long somebody watches is noted so often: what a process that is killed knew of it is lost.
NOTE_S: Final = 300.0


class FleetViewer(TalkingViewer):
    """All active trips; its client may only refresh its token."""

    __slots__ = ("_note_due", "_watched_since")

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
        self._watched_since: datetime | None = datetime.now(UTC)  # None: no more
        self._note_due = time.monotonic() + NOTE_S

    def understand(self, message: str | bytes) -> None:
        self.refresh(fleet_protocol.client_message(message).token)

    def may_stay(self, principal: Principal) -> bool:
        return may_watch_all(principal)

    def tick(self, now: float) -> None:
        if self.subscriber.send_queue.is_busy:
            self.heard()  # a ping waits behind the page: how long that may take has its own limit
        if now >= self._note_due:
            self._note_due = now + NOTE_S
            self._note()
        super().tick(now)

    def stop(self) -> None:
        super().stop()
        self._note()
        self._watched_since = None

    def _note(self) -> None:
        """Owners learn who had their trips before his eyes, and how long."""
        if self._watched_since is not None:
            log, principal = self.handler.services.access_log, self.subscriber.principal
            self._watched_since = log.note_watch(principal, self._watched_since)
