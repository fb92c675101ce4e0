"""What has to be done now and then, on the executor. IOLoop thread."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from tracking.domain.events import BookingEvent
from tracking.metrics import Metrics
from tracking.store import partitions
from tracking.store.engine import is_transient
from tracking.store.ingest import parking
from tracking.store.maintenance import upkeep
from workers.kafka.batches import Batch

log = logging.getLogger("tracking.housekeeping")

SETTLE_S: Final = 1.0
ADOPT_S: Final = 3.0
EXPIRE_S: Final = 30.0
PARTITIONS_S: Final = 3600.0
# While what is read is older than this, nobody knows what has not happened: nothing expires.
BEHIND_S: Final = 60.0


class Maintenance:
    """Periodic work of the database; what changes trips goes through ingest like any event."""

    def __init__(
        self,
        engine: sa.Engine,
        executor: Executor,
        metrics: Metrics,
        offer: Callable[[Batch], None],
        delay_s: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._metrics = metrics
        self._offer = offer
        self._delay_s = delay_s

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(
            self._every(PARTITIONS_S, self._make_partitions),
            self._every(SETTLE_S, self._settle),
            self._every(ADOPT_S, self._adopt),
            self._every(EXPIRE_S, self._expire),
        )

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            pause = seconds
            try:
                await work()
            except Exception as error:
                if not is_transient(error):
                    raise
                pause = min(seconds, EXPIRE_S)  # the database is away: ingest says so
            await asyncio.sleep(pause)

    async def _call(self, function: Callable[..., Any], *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, self._engine, *arguments)

    async def _make_partitions(self) -> None:
        await self._call(partitions.ensure_ahead, datetime.now(UTC))

    async def _settle(self) -> None:
        await self._call(upkeep.settle_metadata)

    async def _adopt(self) -> None:
        """Two ingest processes may each have missed the other's: one its update, one its track."""
        claimed = await self._call(parking.claimed_bookings)
        if claimed:
            self._offer(Batch(adopt=frozenset(claimed)))

    async def _expire(self) -> None:
        self._metrics.parked.set(await self._call(parking.count))
        await self._call(upkeep.delete_expired_shares)
        if self._delay_s() < BEHIND_S:
            await self._refuse_what_nobody_claimed()
            await self._end_what_nobody_ended()

    async def _refuse_what_nobody_claimed(self) -> None:
        refused = await self._call(parking.expire)
        if refused:
            log.warning("%d parked updates refused: no track claimed them", refused)
        self._metrics.expired.inc(refused)

    async def _end_what_nobody_ended(self) -> None:
        abandoned = await self._call(upkeep.abandoned_bookings)
        events = [BookingEvent(booking_id, "abandoned", at) for booking_id, at in abandoned]
        if events:
            log.info("%d trips ended that nobody had ended", len(events))
            self._offer(Batch(events=list(events)))
