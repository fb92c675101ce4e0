"""A viewer that speaks `tracking.v1`: resumes without a gap, is told what happens. IOLoop thread.

Joining is resuming from nothing: live messages are held, the rows between the wanted seq and what
is held are sent page by page, then what was held follows. `catch_up` is the same once more, and so
is a slow viewer's way to late waypoints: they are not queued for him, but held, or read again.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct

from handlers.websocket.send_queue import SendQueue
from handlers.websocket.viewers import Connection, Viewer
from tracking.domain.access import BookingAccess, may_watch
from tracking.domain.freshness import Freshness
from tracking.domain.tracks import LiveState, TrackChange
from tracking.errors import InvalidRequest, InvalidToken, TrackingError
from tracking.live.rooms import Room
from tracking.store.read.live import PAGE, count_rows, missed_page
from tracking.wire import close_codes, protocol
from tracking.wire.messages import Message, rfc3339

R = TypeVar("R")

log = logging.getLogger("tracking.stream")

# While a viewer catches up at most so many live messages are held; older ones are read again.
HELD: Final = 64
# The client is told so long before its token ends.
EXPIRY_NOTICE_S: Final = 30.0
# A client asks now and then: so many messages at once, and one more a second.
MESSAGE_BURST: Final = 20
MESSAGE_RATE: Final = 1.0


class JoinOptions(Struct, frozen=True):
    """What the query of the handshake asks for."""

    epoch: str | None = None
    since_seq: int | None = None
    history: bool = True
    min_interval_s: float = 0.0


class ProtocolViewer(Viewer):
    """`tracking.v1`."""

    def __init__(
        self, connection: Connection, room: Room, send_queue: SendQueue, options: JoinOptions
    ) -> None:
        super().__init__(connection, room, send_queue)
        self._options = options
        self._held: deque[Message] | None = deque(maxlen=HELD)
        self._thinned: Message | None = None  # the position that waits for its interval
        self._next_position = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: int | None = None  # from which seq it has to catch up
        self._is_asked = False  # by the client
        self._task: asyncio.Task[None] | None = None
        self._welcomed = False
        self._notified = False
        self._allowance, self._asked_at = float(MESSAGE_BURST), 0.0

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    def end(self) -> None:
        super().end()
        if self._task is not None:
            self._task.cancel()
        self._cancel_timer()

    @property
    def is_catching_up(self) -> bool:
        return self._held is not None

    async def _run(self) -> None:
        """A connection whose catching up fails comes again; nobody else is touched."""
        try:
            if not self._welcomed:
                await self._join()
            while self._wanted is not None:
                since, self._wanted = self._wanted, None
                is_asked, self._is_asked = self._is_asked, False
                if self._held is None:
                    self.occupied()
                    self._held = deque(maxlen=HELD)
                await self._catch_up(min(since, self._sent_seq), is_asked=is_asked)
        except TrackingError:
            self.connection.close_with(close_codes.OVERLOADED)
        except Exception:
            log.exception("catching up failed")
            self.connection.close_with(close_codes.INTERNAL)
        finally:
            self._task = None

    async def _join(self) -> None:
        since, recovered = await self._start_of(self._state())
        services, expires_at = self.connection.services, self.connection.principal.expires_at
        self.room.age(datetime.now(UTC), services.delay_s())  # what changes later is told
        self._welcomed = True
        if recovered is not None:
            services.metrics.resumes.labels(str(recovered).lower()).inc()
        self._say(
            protocol.welcome(
                self._state(), self.room.freshness, recovered=recovered, expires_at=expires_at
            )
        )
        await self._catch_up(since)

    def _state(self) -> LiveState:
        """As it is now; a room that was entered has one."""
        assert self.room.state is not None
        return self.room.state

    async def _start_of(self, state: LiveState) -> tuple[int, bool | None]:
        """From which seq on it has to be told, and what `welcome` says of it."""
        options = self._options
        if options.since_seq is None:
            return (0 if options.history else state.head_seq), None
        head, since = state.head_seq, options.since_seq
        if state.track_id is None or options.epoch != state.epoch or since > head:
            return 0, False
        if since == head:
            return since, True
        there = await self._ask(count_rows, state.track_id, since, head)
        return (since, True) if there == head - since else (0, False)

    async def _catch_up(self, since: int, *, is_asked: bool = False) -> None:
        """Page by page up to what is held, as often as more has happened than can be held.

        What is held is sent as it came: the marker of whoever catches up ends at the newest.
        A client that asked is answered though there is nothing.
        """
        self._sent_seq = since  # also backwards, when the client asks for it
        await self.send_queue.drain()
        held = self._held
        assert held is not None
        while True:
            state = self._state()
            until = held[0].first_seq - 1 if held else state.head_seq
            if state.track_id is None or self._sent_seq >= until:
                break
            await self._send_pages(state.track_id, until)
        if is_asked and self._sent_seq == since:
            self._say(protocol.backfill(self.room.booking_id, [], since, since, more=False))
        self._held = None
        for message in held:
            self._deliver(message)
        self._end_if_over()

    async def _ask(self, function: Callable[..., R], *arguments: object) -> R:
        ask = partial(self.connection.services.ask, function, *arguments)
        return await self.room.shared((function, *arguments), ask)

    async def _send_pages(self, track_id: object, until: int) -> None:
        services, booking_id = self.connection.services, self.room.booking_id
        while True:
            rows = await self._ask(missed_page, track_id, self._sent_seq, until)
            more = len(rows) == PAGE
            through = rows[-1].seq if more else until
            message = protocol.backfill(booking_id, rows, self._sent_seq, through, more=more)
            services.metrics.backfill_points.inc(len(rows))
            await self.send_queue.send_page(protocol.frame_of(message))
            self._sent_seq = through
            if not more:
                return

    def take(self, message: Message) -> int | None:
        """A position that is due goes with those of the whole room."""
        if message.is_position and message.seq > self._sent_seq and self._is_due():
            self._begin_interval()
            self._sent_seq = message.seq
            return self.send_queue.take(message.frame)
        if not self.send_queue.is_ended:  # it may have left while the relay let others run
            self.occupied()
            self._deliver(message)
        return None

    def level_socket(self) -> socket.socket | None:
        wants_all = self._held is None and not self._options.min_interval_s
        return super().level_socket() if wants_all else None

    def _is_due(self) -> bool:
        return self._held is None and asyncio.get_running_loop().time() >= self._next_position

    def _deliver(self, message: Message) -> None:
        if self._held is not None:
            self._held.append(message)
        elif message.seq > self._sent_seq:
            self._deliver_now(message)

    def _deliver_now(self, message: Message) -> None:
        if not message.is_position:
            self._release_thinned()  # its seq is lower
            if self.send_queue.is_busy:
                self._wait_with(message)
            else:
                self._send(message)
            return
        if self._is_due():
            self._begin_interval()
            self._send(message)
            return
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._next_position, self._release_thinned)
        self._thinned = message

    def _release_thinned(self) -> None:
        """At its time, or when something with a higher seq has to follow."""
        message, self._thinned = self._thinned, None
        self._cancel_timer()
        # While it catches up a thinned position is read with the rest.
        if message is not None and message.seq > self._sent_seq and self._held is None:
            self._begin_interval()
            self._send(message)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_with(self, *late: Message) -> None:
        """Late waypoints may be many: they wait outside the queue until the socket is free."""
        self.occupied()
        self._held = deque(late, maxlen=HELD)
        self._want(self._sent_seq)

    def _begin_interval(self) -> None:
        self._thinned = None
        self._cancel_timer()
        self._next_position = asyncio.get_running_loop().time() + self._options.min_interval_s

    def _send(self, message: Message) -> None:
        self.occupied()
        self._sent_seq = message.seq
        self.send_queue.send(message.frame, replaceable=message.is_position)

    def track_changed(self, change: TrackChange) -> None:
        super().track_changed(change)
        if self._welcomed:  # else `welcome` says it
            self._say(protocol.track_update(change))
        self._end_if_over()

    def _end_if_over(self) -> None:
        """Nobody comes back after 1000: everything is sent before."""
        if not self.is_over or self._held is not None:
            return
        self._release_thinned()
        if self.send_queue.is_busy:
            self._wait_with()
        else:
            self.connection.close_with(close_codes.TRIP_OVER)

    def freshness_changed(self, freshness: Freshness) -> None:
        if self._welcomed:
            self._say(protocol.freshness_update(self.room.booking_id, freshness))

    def received(self, message: str | bytes) -> None:
        """Short, and never waits: Tornado reads no pong meanwhile."""
        if not self._may_ask():
            self.connection.close_with(close_codes.TOO_MANY)
            return
        try:
            request = protocol.client_message(message)
            if isinstance(request, protocol.Refresh):
                self._refresh(request.token)
            else:
                self._is_asked = True
                self._want(request.since_seq)
        except InvalidToken:
            self.connection.close_with(close_codes.INVALID_TOKEN)
        except InvalidRequest:
            self.connection.close_with(close_codes.BAD_REQUEST)

    def _may_ask(self) -> bool:
        now = asyncio.get_running_loop().time()
        earned = (now - self._asked_at) * MESSAGE_RATE
        self._allowance = min(self._allowance + earned, float(MESSAGE_BURST)) - 1
        self._asked_at = now
        return self._allowance >= 0

    def _refresh(self, token: str) -> None:
        connection, state = self.connection, self._state()
        principal = connection.services.tokens.principal(token)
        access = BookingAccess(state.booking_id, state.owner_id, state.runner_id)
        same = principal.user_id == connection.principal.user_id
        if not same or not may_watch(principal, access):
            raise InvalidToken("another user's token")
        connection.principal = principal
        self.expects(principal)
        self._notified = False
        if self._welcomed:  # else `welcome` says it
            self._say(self._heartbeat())

    def _heartbeat(self) -> protocol.Heartbeat:
        return protocol.Heartbeat(rfc3339(self.connection.principal.expires_at))

    def _want(self, since: int) -> None:
        self._wanted = since if self._wanted is None else min(self._wanted, since)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def tick(self, now: float) -> None:
        super().tick(now)
        if not self._welcomed:
            return  # `welcome` is the first message
        if self.expires_at - now < EXPIRY_NOTICE_S and not self._notified:
            self._notified = True
            at = rfc3339(self.connection.principal.expires_at)
            self._say(protocol.TokenExpiring(at))
        if now - self._last_sent >= protocol.HEARTBEAT_S:
            self._say(self._heartbeat())

    def _say(self, message: Struct) -> None:
        self.send_queue.send(protocol.frame_of(message))
