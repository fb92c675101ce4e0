"""One trip shown again: pages are read ahead, frames leave at their times. IOLoop thread."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Final

import msgspec

from handlers.rejections import rejection_of
from handlers.services import Services
from handlers.websocket.replay_admission import ReplayAdmission
from tracking.domain.access import BookingAccess, may_watch
from tracking.domain.events import FIRST_TIME
from tracking.domain.playback import Arrivals, Playback, Shown, as_recorded
from tracking.domain.times import rfc3339
from tracking.domain.waypoints import StoredWaypoint
from tracking.errors import NotFound, TrackingError
from tracking.live.recipient import State
from tracking.live.replays import ReplayRecipient
from tracking.store.read.replayed import (
    Place,
    Replayed,
    ReplayPage,
    replay_access,
    replay_bounds,
    replay_page,
    standing,
)
from tracking.wire import close_codes, replay_protocol
from tracking.wire.messages import position
from tracking.wire.protocol import frame_of

# A booking that was erased, or has another runner, is shown so much longer at the most.
CHECK_S: Final = 10.0
LEAST_WAIT_S: Final = 0.001


class Replaying:
    """One task, which ends with the socket."""

    def __init__(
        self, services: Services, admission: ReplayAdmission, recipient: ReplayRecipient
    ) -> None:
        self._services, self._recipient = services, recipient
        self._options, self._state, self._part = (
            admission.options, admission.state, admission.part,
        )  # fmt: skip
        state = admission.state
        self.access = BookingAccess(state.booking_id, state.owner_id, state.runner_id)
        # What a client says before the welcome counts, and is answered behind it.
        self._playback = Playback(FIRST_TIME, self._options.speed, time.monotonic())
        self._owed = 0
        self._bounds: tuple[datetime, datetime] | None = None  # of what is shown
        self._newest: StoredWaypoint | None = None  # where the marker stands
        self._sought: datetime | None = None
        self._changed = asyncio.Event()
        self._checked = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Returns at once."""
        self._task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        """The recipient has left."""
        if self._task is not None:
            self._task.cancel()

    def seek(self, at: datetime) -> None:
        """Answered when it is there; of several at once the last one counts."""
        self._sought = at
        self._changed.set()

    def set_speed(self, speed: float) -> None:
        self._playback.set_speed(speed, time.monotonic())
        self._answer()

    def pause(self) -> None:
        self._playback.pause(time.monotonic())
        self._answer()

    def resume(self) -> None:
        self._playback.resume(time.monotonic())
        self._answer()

    def _answer(self) -> None:
        self._changed.set()
        if self._bounds is None:
            self._owed += 1
        else:
            self._recipient.tell(self._said(None))

    def _said(self, sought: datetime | None) -> bytes:
        playback, newest = self._playback, None if sought is None else self._newest
        at = playback.at(time.monotonic()) if sought is None else sought
        last_position = None if newest is None else position(newest)
        return frame_of(
            replay_protocol.ReplayState(
                self._part.booking_id, rfc3339(at), playback.speed,
                playback.is_paused, sought is not None, last_position,
            )
        )  # fmt: skip

    async def _run(self) -> None:
        recipient = self._recipient
        try:
            if await self._begin():
                await self._show()
            else:
                await recipient.send_queue.drain()
            recipient.end(close_codes.TRIP_OVER)
        except TrackingError as error:
            recipient.end(rejection_of(error).close_code)
        except Exception as error:
            recipient.fail(error)

    async def _begin(self) -> bool:
        """`welcome`. False if there is nothing to show."""
        services, recipient = self._services, self._recipient
        bounds = await services.read(replay_bounds, self._part)
        if self._options.since is not None:
            self._newest = await services.read(standing, self._part)
        state = msgspec.structs.replace(self._state, last=self._newest)
        recipient.state = State.LIVE
        expires_at = recipient.principal.expires_at
        recipient.send_queue.send(replay_protocol.welcome(state, self._options, bounds, expires_at))
        if bounds is None:
            return False
        self._bounds = bounds
        self._playback.seek(bounds[0], time.monotonic())
        for _ in range(self._owed):
            self._answer()
        return True

    async def _show(self) -> None:
        """Until the end has reached the viewer, and no other time is sought."""
        while True:
            if await self._play(self._playback):
                await self._recipient.send_queue.drain()
                if self._sought is None:
                    return
            await self._move(self._playback)

    async def _move(self, playback: Playback) -> None:
        """To the time that was sought."""
        while self._sought is not None:
            sought, self._sought = self._within(self._sought), None
            self._part = msgspec.structs.replace(self._part, since=sought)
            self._newest = await self._services.read(standing, self._part)
            playback.seek(sought, time.monotonic())
        assert self._part.since is not None
        self._recipient.tell(self._said(self._part.since))

    def _within(self, at: datetime) -> datetime:
        """What is sought outside of what is shown is its first or its last moment."""
        assert self._bounds is not None
        first, last = self._bounds
        return min(max(at, first), last)

    async def _play(self, playback: Playback) -> bool:
        """From where it stands to the end; False when another time was sought."""
        arrivals = Arrivals(self._newest)
        async with aclosing(self._pages(self._part)) as pages:
            async for page in pages:
                is_recorded = self._part.order == "recorded"
                messages = as_recorded(page) if is_recorded else arrivals.of(page)
                for message in messages:
                    if not await self._is_due(playback, message.due):
                        return False
                    await self._send(playback, message)
        return self._sought is None

    async def _is_due(self, playback: Playback, due: datetime) -> bool:
        """Wait until it is, however the client changes the pace; False when it seeks."""
        while self._sought is None:
            now = time.monotonic()
            if now - self._checked > CHECK_S:
                self._check(await self._services.ask(replay_access, self._part))
                continue
            silence = playback.shorten(due, now)
            if silence is not None:
                frame = replay_protocol.gap(self._part.booking_id, silence)
                self._recipient.tell(frame)
            wait_s = playback.wait_s(due, now)
            if wait_s is not None and wait_s <= 0:
                return True
            self._changed.clear()
            until_check_s = CHECK_S - (now - self._checked)
            await self._wait(until_check_s if wait_s is None else min(wait_s, until_check_s))
        return False

    async def _wait(self, seconds: float) -> None:
        """Less when the client says something. `wait_for` takes four times as long."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(seconds, LEAST_WAIT_S), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    async def _send(self, playback: Playback, message: Shown) -> None:
        """Return when the socket has taken it: a slow viewer sees it slower."""
        if not message.is_late:
            self._newest = message.waypoints[0]
        playback.hold(message.due, time.monotonic())
        self._services.metrics.replays.frames.inc()
        await self._recipient.send_queue.send_page(replay_protocol.shown(message))

    def _check(self, access: BookingAccess) -> None:
        """Who may see it, asked just now; raises NotFound for who may not any more."""
        self.access, self._checked = access, time.monotonic()
        self._refuse(access)

    def _refuse(self, access: BookingAccess) -> None:
        if not may_watch(self._recipient.principal, access):
            raise NotFound("no such booking")

    async def _pages(self, part: Replayed) -> AsyncGenerator[list[StoredWaypoint], None]:
        """Each is read while the one before it is shown."""
        reading = asyncio.create_task(self._read(part, None))
        try:
            while True:
                page = await reading
                self._refuse(page.access)  # as old as the page that was shown meanwhile
                if page.last is not None:
                    reading = asyncio.create_task(self._read(part, page.last))
                yield page.waypoints
                if page.last is None:
                    return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, part: Replayed, after: Place | None) -> ReplayPage:
        return await self._services.read(replay_page, part, after)
