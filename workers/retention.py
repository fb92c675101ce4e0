"""Routes that are old enough go: trips first, then their partitions. IOLoop thread."""

import asyncio
import logging
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from tracking.metrics import Metrics
from tracking.store.maintenance import dropping, expiry

log = logging.getLogger("tracking.retention")

# A partition that could have gone for so long and has not wants somebody; so has the alert it.
LATE: Final = timedelta(days=40)


class Retention:
    """Of one process; of all of them one works at a time."""

    def __init__(
        self, engine: sa.Engine, executor: Executor, metrics: Metrics, keep: timedelta
    ) -> None:
        """`engine`: two connections to PostgreSQL itself. `executor`: a thread of its own, since it
        waits for readers of what it drops.
        """
        self._engine = engine
        self._executor = executor
        self._metrics = metrics
        self._keep = keep
        self._floor: datetime | None = None  # below which requests were looked through

    async def work(self) -> None:
        """One round. When it raises, what was done stays done, and the next round goes on."""
        cutoff = datetime.now(UTC) - self._keep
        await asyncio.get_running_loop().run_in_executor(self._executor, self._work, cutoff)

    def _work(self, cutoff: datetime) -> None:
        """On the executor."""
        with dropping.only_one(self._engine) as connection:
            if connection is None:
                return  # another process is at it
            floor = expiry.floor_of(self._engine, cutoff)
            self._metrics.retention_floor.set(floor.timestamp())
            self._metrics.retention_behind.set((cutoff - floor).total_seconds())
            if cutoff - floor > LATE:
                log.warning("routes since %s are kept for a trip that is not done with", floor)
            self._expire_trips(cutoff, floor)
            if expiry.is_any_left(self._engine, floor):
                return  # it has changed just now
            self._forget_requests(floor)
            dropped = dropping.drop_below(connection, floor)
        self._metrics.dropped_partitions.inc(len(dropped))
        for name in dropped:
            log.info("partition %s dropped: its trips are over for %d days", name, self._keep.days)

    def _expire_trips(self, cutoff: datetime, floor: datetime) -> None:
        total = 0
        while bookings := expiry.due_bookings(self._engine, floor):
            expired = 0
            for first in range(0, len(bookings), expiry.AT_ONCE):
                part = bookings[first : first + expiry.AT_ONCE]
                expired += expiry.expire(self._engine, part, cutoff, floor)
            self._metrics.expired_routes.inc(expired)
            total += expired
            if not expired:
                break
        if total:
            log.info("%d routes expired: their trips began before %s", total, floor.isoformat())

    def _forget_requests(self, floor: datetime) -> None:
        """It goes through the whole table: once for each floor."""
        if floor != self._floor:
            expiry.forget_requests(self._engine, floor)
            self._floor = floor
