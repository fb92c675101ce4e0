"""A subscriber of `tracking.v1`: holds, thins, and never skips what it is owed. IOLoop thread only.

While it catches up, what is published is held; older messages than can be held are read again. Late
waypoints may be many: while its socket is busy they are not queued, it catches up instead.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tracking.domain.access import Principal
from tracking.domain.tracks import TrackChange
from tracking.live.recipient import Connection, State
from tracking.live.send_queue import SendQueue
from tracking.live.subscriber import Subscriber
from tracking.live.views import EVERYTHING, View
from tracking.wire import close_codes
from tracking.wire.messages import Message

if TYPE_CHECKING:
    from tracking.live.room import Room

# While a viewer catches up at most so many live messages are held; older ones are read again.
HELD: Final = 64


class ProtocolSubscriber(Subscriber):
    """`tracking.v1`. Whoever catches it up calls `begin_catching_up`, then `go_live`."""

    __slots__ = (
        "_catch_up",
        "_held",
        "_min_interval_s",
        "_next_position_at",
        "_thinned",
        "_timer",
        "view",
    )

    def __init__(
        self,
        room: "Room",
        connection: Connection,
        principal: Principal,
        send_queue: SendQueue,
        min_interval_s: float,
        catch_up: Callable[[], None],
        view: View = EVERYTHING,
    ) -> None:
        super().__init__(room, connection, principal, send_queue)
        self.state, self.view = State.JOINING, view
        # Called when it has to be caught up though nobody asked: it returns before that happens.
        self._catch_up = catch_up
        self._held: deque[Message] | None = None  # a deque is 600 bytes
        self._min_interval_s = min_interval_s
        self._next_position_at = 0.0  # of the loop's clock
        self._thinned: Message | None = None  # the position that waits for its interval
        self._timer: asyncio.TimerHandle | None = None

    def accept(self, message: Message) -> int | None:
        """A position that is due goes with those of the whole room."""
        if message.seq > self.sent_seq and self._is_due():
            self._begin_interval()
            self.sent_seq = message.seq
            return self.send_queue.accept(message.frame)
        self._deliver(message)
        return None

    def accept_late(self, message: Message) -> None:
        self._deliver(message)

    def socket_in_sync(self) -> socket.socket | None:
        wants_all = self.state is State.LIVE and not self._min_interval_s
        return super().socket_in_sync() if wants_all else None

    def begin(self) -> None:
        """Who joins is caught up first."""
        self._catch_up()

    def begin_catching_up(self) -> None:
        """From now on what is published is held."""
        if self.state is not State.ENDED:
            self.leave_cohort()
            self.state = State.CATCHING_UP

    @property
    def missing_through(self) -> int:
        """The seq up to which backfills have to go: what is above it is held."""
        state = self.room.state
        head_seq = 0 if state is None else state.head_seq
        return self._held[0].first_seq - 1 if self._held else head_seq

    def go_live(self) -> None:
        """It has everything up to `missing_through`: what was held follows as it came.

        So the marker of whoever catches up ends at the newest position.
        """
        if self.state is State.ENDED:
            return
        held, self._held = self._held, None
        self.state = State.LIVE
        for message in held or ():
            self._deliver(message)
        if self.room.is_over:
            self.finish()

    def fall_behind(self) -> None:
        """The room has missed changes: what this one was not sent is read from the table."""
        if self.state is State.LIVE:
            self.begin_catching_up()
            self._catch_up()
        else:
            self._held = None  # the room's head goes beyond it

    def begin_anew(self) -> None:
        """From the first waypoint on, at once; `welcome` has still to come for who is joining."""
        if self.state in (State.CATCHING_UP, State.LIVE):
            self._held = None
            self.begin_catching_up()
            self.sent_seq = 0
            self._catch_up()

    def check_access(self, change: TrackChange) -> None:
        """A share link's viewers are nobody: the link decides, not the booking's people."""
        if self.view is EVERYTHING:
            super().check_access(change)

    def _is_due(self) -> bool:
        if self.state is not State.LIVE:
            return False
        return asyncio.get_running_loop().time() >= self._next_position_at

    def _deliver(self, message: Message) -> None:
        if self.state in (State.JOINING, State.CATCHING_UP):
            self._hold(message)
        elif self.state is State.LIVE:
            self.leave_cohort()  # tells what it was sent
            if message.seq > self.sent_seq:
                self._deliver_live(message)

    def _hold(self, message: Message) -> None:
        if self._held is None:
            self._held = deque(maxlen=HELD)
        self._held.append(message)

    def _deliver_live(self, message: Message) -> None:
        if not message.is_position:
            self._release_thinned()  # its seq is lower
            if self.send_queue.is_busy:
                self.fall_behind()
                self._hold(message)
            else:
                self._send(message)
            return
        if self._is_due():
            self._begin_interval()
            self._send(message)
            return
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._next_position_at, self._interval_over)
        self._thinned = message

    def _interval_over(self) -> None:
        try:
            self._release_thinned()
        except Exception as error:
            self.fail(error)

    def _release_thinned(self) -> None:
        """At its time, or when something with a higher seq has to follow."""
        message, self._thinned = self._thinned, None
        self._cancel_timer()
        # While it catches up a thinned position is read with the rest.
        if message is not None and message.seq > self.sent_seq and self.state is State.LIVE:
            self._begin_interval()
            self._send(message)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin_interval(self) -> None:
        self._thinned = None
        self._cancel_timer()
        self._next_position_at = asyncio.get_running_loop().time() + self._min_interval_s

    def _send(self, message: Message) -> None:
        self.sent_seq = message.seq
        self.send_queue.send(message.frame, replaceable=message.is_position)

    def tell(self, frame: bytes) -> None:
        """A status: never held, never dropped. Before `welcome`, which says it, it is not sent."""
        if self.state in (State.CATCHING_UP, State.LIVE):
            self.send_queue.send(frame)

    def tell_newest(self, frame: bytes) -> None:
        """Likewise; of those that wait only the newest is sent."""
        if self.state in (State.CATCHING_UP, State.LIVE):
            self.send_queue.send_newest(frame)

    def finish(self) -> None:
        """Nobody comes back after 1000: everything is sent before, what it misses, too."""
        if self.state is not State.LIVE:
            return
        self._release_thinned()
        if self.send_queue.is_busy:
            self.fall_behind()  # go on when the socket is free: memory holds a page and `HELD`
        else:
            self.end(close_codes.TRIP_OVER)

    def leave(self) -> None:
        super().leave()
        self._cancel_timer()
        self._thinned = None
