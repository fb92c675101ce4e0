"""How a subscriber of `tracking.v1` gets what it missed. IOLoop thread.

Joining is catching up from nothing: live messages are held, the rows between the wanted seq and
what is held are sent page by page, then what was held follows. `catch_up` is the same once more,
and so is the way of a slow viewer to late waypoints.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from msgspec import Struct

from handlers.services import Services
from tracking.domain.tracks import LiveState
from tracking.errors import TrackingError
from tracking.live.protocol_subscriber import ProtocolSubscriber
from tracking.live.recipient import State
from tracking.store.read.live import PAGE, count_rows, missed_page
from tracking.wire import close_codes, protocol

R = TypeVar("R")


class JoinOptions(Struct, frozen=True):
    """What the query of the handshake asks for."""

    epoch: str | None = None
    since_seq: int | None = None
    history: bool = True
    min_interval_s: float = 0.0


class CatchUp:
    """Of one subscriber: one task at a time, which ends when nothing is left to catch up."""

    __slots__ = ("_is_asked", "_options", "_services", "_since_seq", "subscriber", "task")

    subscriber: ProtocolSubscriber

    def __init__(self, services: Services, options: JoinOptions) -> None:
        self._services = services
        self._options = options
        self._since_seq: int | None = None  # where the next round begins; None: there is none
        self._is_asked = False  # by the client, who waits for an answer
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Join, or go on behind what was sent last. Returns at once."""
        if self.subscriber.state is not State.JOINING:
            self._since_seq = self._at_most(self.subscriber.sent_seq)
        self._run_task()

    def answer(self, since_seq: int) -> None:
        """Everything above `since_seq`; an empty backfill if there is no more. Returns at once."""
        self._is_asked = True
        self._since_seq = self._at_most(since_seq)
        self._run_task()

    def _at_most(self, since_seq: int) -> int:
        return since_seq if self._since_seq is None else min(self._since_seq, since_seq)

    def _run_task(self) -> None:
        if self.task is None:
            self.task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        """The subscriber has left."""
        if self.task is not None:
            self.task.cancel()

    async def _run(self) -> None:
        """A connection whose catching up fails comes again; nobody else is touched."""
        subscriber = self.subscriber
        try:
            if subscriber.state is State.JOINING:
                await self._join()
            while self._since_seq is not None:
                since, self._since_seq = self._since_seq, None
                is_asked, self._is_asked = self._is_asked, False
                subscriber.begin_catching_up()
                await self._catch_up(min(since, subscriber.sent_seq), is_asked=is_asked)
        except TrackingError:
            subscriber.end(close_codes.OVERLOADED)
        except Exception as error:
            subscriber.fail(error)
        finally:
            self.task = None

    async def _join(self) -> None:
        """`welcome` says what is known at that moment; what changes later is told."""
        subscriber, services = self.subscriber, self._services
        since, recovered = await self._start_of(self._state())
        subscriber.room.age(datetime.now(UTC), services.delay_s())
        subscriber.begin_catching_up()
        if recovered is not None:
            services.metrics.resumes.labels(str(recovered).lower()).inc()
        welcome = subscriber.view.welcome(
            self._state(),
            subscriber.room.freshness,
            recovered,
            subscriber.principal.expires_at,
            subscriber.room.eta,
        )
        subscriber.tell(protocol.frame_of(welcome))
        await self._catch_up(since)

    def _state(self) -> LiveState:
        """As it is now; a room that was entered has one."""
        state = self.subscriber.room.state
        assert state is not None
        return state

    async def _start_of(self, state: LiveState) -> tuple[int, bool | None]:
        """Above which seq it has to be told, and what `welcome` says of it (`recovered`)."""
        options, view = self._options, self.subscriber.view
        if options.since_seq is None:
            return (0 if options.history else state.head_seq), None
        head, since = state.head_seq, options.since_seq
        epoch = view.epoch(state)
        if state.track_id is None or epoch is None or options.epoch != epoch or since > head:
            return 0, False
        if since == head:
            return since, True
        there = await self._ask(count_rows, state.track_id, since, head)
        is_the_same = epoch == view.epoch(self._state())  # ... as before it was asked
        return (since, True) if is_the_same and there == head - since else (0, False)

    async def _catch_up(self, since: int, *, is_asked: bool = False) -> None:
        """Page by page up to what is held, as often as more has happened than can be held."""
        subscriber = self.subscriber
        subscriber.sent_seq = since  # also backwards, when the client asks for it
        await subscriber.send_queue.drain()
        while True:
            track_id, through = self._state().track_id, subscriber.missing_through
            if track_id is None or subscriber.sent_seq >= through:
                break
            if subscriber.view.is_waiting(self._state()):
                break  # it will begin anew
            await self._send_pages(track_id, through)
        if is_asked and subscriber.sent_seq == since:
            booking_id = subscriber.room.booking_id
            empty = protocol.backfill(booking_id, [], since, since, more=False)
            subscriber.tell(protocol.frame_of(empty))
        subscriber.go_live()

    async def _send_pages(self, track_id: UUID, through_seq: int) -> None:
        subscriber, metrics = self.subscriber, self._services.metrics
        while True:
            after = subscriber.sent_seq
            since = subscriber.view.since(self._state())
            rows = await self._ask(missed_page, track_id, after, through_seq, since)
            more = len(rows) == PAGE
            until = rows[-1].seq if more else through_seq
            message = protocol.backfill(subscriber.room.booking_id, rows, after, until, more=more)
            metrics.backfill_points.inc(len(rows))
            await subscriber.send_queue.send_page(protocol.frame_of(message))
            subscriber.sent_seq = until
            if not more:
                return

    async def _ask(self, function: Callable[..., R], *arguments: object) -> R:
        """Of the database, once for all of the room who ask the same at about the same time."""
        ask = partial(self._services.ask, function, *arguments)
        return await self.subscriber.room.shared_answers.get((function, *arguments), ask)
