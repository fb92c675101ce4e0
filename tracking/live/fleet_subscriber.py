"""One connection that watches all active trips: up to which version it has them. IOLoop thread."""

import asyncio
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

from tracking.domain.access import Principal
from tracking.live.fleet_table import FleetTable
from tracking.live.recipient import Connection, Recipient, State
from tracking.live.send_queue import SendQueue
from tracking.wire import close_codes, fleet_protocol

if TYPE_CHECKING:
    from tracking.live.fleet import Fleet


class FleetSubscriber(Recipient):
    """Nothing waits for it but what its socket has not taken yet of one message.

    While that lasts it is not served; the next message has all that changed meanwhile, once.
    """

    __slots__ = ("_epoch", "_fleet", "_since", "_task", "cursor")

    def __init__(
        self, fleet: "Fleet", connection: Connection, principal: Principal,
        send_queue: SendQueue, epoch: str | None, since: int | None,
    ) -> None:  # fmt: skip
        super().__init__(connection, principal, send_queue, State.JOINING)
        self._fleet = fleet
        self._epoch, self._since = epoch, since  # what its client has: None for nothing
        self.cursor = 0  # the version up to which it was sent everything
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """`welcome`, then the snapshot, or what has changed since the client's version."""
        table = self._fleet.table
        assert table is not None  # its fleet is kept as long as it is here
        table.settle()
        recovered, rest = None, table.snapshot()
        if self._since is not None:
            recovered = table.reaches(self._epoch, self._since)
            self.send_queue.metrics.resumes.labels(str(recovered).lower()).inc()
            if recovered:
                rest = iter((table.changes(self._since) or table.no_changes(),))
        welcome = fleet_protocol.welcome(
            table.epoch, table.told, recovered=recovered, expires_at=self.principal.expires_at
        )
        self.cursor = table.told
        self._send(chain((welcome,), rest))

    def serve(self, table: FleetTable) -> None:
        """What has changed since it was served last, unless its socket is still busy with that."""
        if self.state is not State.LIVE:
            return
        if self.cursor < table.floor:
            self.end(close_codes.TOO_SLOW)  # it could not be told of trips that ended
            return
        frame = table.changes(self.cursor)
        if frame is None:
            return
        self.cursor = table.told
        if self._is_busy():
            self._send((frame,))
            return
        self.send_queue.send(frame)
        if self._is_busy():
            self._send(())

    def _is_busy(self) -> bool:
        return self.send_queue.is_busy

    def _send(self, frames: Iterable[bytes]) -> None:
        self.state = State.CATCHING_UP
        self._task = asyncio.create_task(self._run(frames))

    async def _run(self, frames: Iterable[bytes]) -> None:
        """One at a time, each when the socket has taken the one before it."""
        try:
            await self.send_queue.drain()
            for frame in frames:
                await self.send_queue.send_page(frame)
                await asyncio.sleep(0)
        except Exception as error:
            self.fail(error)
        if self.state is State.CATCHING_UP:
            self.state = State.LIVE

    def _left(self) -> None:
        self._fleet.left(self)
        if self._task is not None:
            self._task.cancel()
