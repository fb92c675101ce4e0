"""Who is shown a trip again. IOLoop thread only, hence no lock."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

from tracking.domain.access import Principal
from tracking.errors import Overloaded, TooManyConnections
from tracking.live.recipient import Connection, Recipient, State
from tracking.live.send_queue import SendQueue
from tracking.wire import close_codes

# A person looks at one; two devices and a second tab of each.
REPLAYS_PER_USER: Final = 4
# Of this process. Each holds two pages, 100 kB, and sends up to 60 frames a second of phones that
# report each second.
REPLAYS: Final = 200


class Replays:
    """All that run, and how many each user has."""

    def __init__(self) -> None:
        self._users: Counter[UUID] = Counter()
        self._running: set[ReplayRecipient] = set()

    def __len__(self) -> int:
        return len(self._running)

    def reserve(self, user_id: UUID) -> None:
        """One for this user, to be released; raises Overloaded or TooManyConnections."""
        if self._users.total() >= REPLAYS:
            raise Overloaded("too many replays at once")
        if self._users[user_id] >= REPLAYS_PER_USER:
            raise TooManyConnections("too many replays of this user")
        self._users[user_id] += 1

    def release(self, user_id: UUID) -> None:
        self._users[user_id] -= 1
        if not self._users[user_id]:
            del self._users[user_id]  # memory follows those who are here

    def join(self, recipient: "ReplayRecipient") -> None:
        """It was reserved."""
        self._running.add(recipient)
        recipient.send_queue.metrics.replays.running.inc()

    def left(self, recipient: "ReplayRecipient") -> None:
        self._running.discard(recipient)
        recipient.send_queue.metrics.replays.running.dec()
        self.release(recipient.principal.user_id)

    def erase(self, booking_id: UUID) -> None:
        """The booking was erased: whoever is shown it goes."""
        for each in tuple(self._running):
            if each.booking_id == booking_id:
                try:
                    each.end(close_codes.NOT_FOUND)
                except Exception as error:
                    each.fail(error)

    def everybody(self) -> Iterator[Recipient]:
        """At this moment, safe against leaving meanwhile."""
        yield from tuple(self._running)


class ReplayRecipient(Recipient):
    """One replay. It is in no room: nothing live is its business."""

    __slots__ = ("_replays", "_start", "booking_id")

    def __init__(
        self,
        replays: Replays,
        connection: Connection,
        principal: Principal,
        send_queue: SendQueue,
        start: Callable[[], None],
        booking_id: UUID | None = None,
    ) -> None:
        super().__init__(connection, principal, send_queue, State.JOINING)
        self._replays, self._start = replays, start
        self.booking_id = booking_id

    def begin(self) -> None:
        """Show it."""
        self._start()

    def _left(self) -> None:
        self._replays.left(self)
