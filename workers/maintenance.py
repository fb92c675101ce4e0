"""What has to be done now and then, on the executor. IOLoop thread."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.changes import BookingChanges
from tracking.domain.events import BookingEvent
from tracking.domain.verdicts import STANDARD, Rule
from tracking.metrics import Metrics
from tracking.store import accesses, partitions, shares
from tracking.store.engine import is_transient
from tracking.store.ingest import parking
from tracking.store.maintenance.abandoned import abandoned_bookings
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks
from tracking.store.read.recent_erasures import erased_within
from tracking.wire.summarized import settled_fields
from workers.arrival_watch import ArrivalWatch
from workers.kafka.batches import Batch

log = logging.getLogger("tracking.maintenance")

METADATA_S: Final = 1.0
# One round's work: routes of some thousand waypoints take some 10 ms each, one after another, and
# the thread's other work comes in between.
METADATA_TRACKS: Final = 50
# A track whose metadata could not be computed lets the others go first for so long.
POSTPONED_S: Final = 600.0
ADOPT_S: Final = 3.0
EXPIRE_S: Final = 30.0
PARTITIONS_S: Final = 3600.0
RETENTION_S: Final = 3600.0
ARRIVALS_S: Final = 2.0
# A step takes some 50 ms, and the thread's other work comes in between.
ACCESSES_AT_ONCE: Final = 5_000
ACCESSES_STEPS: Final = 20
TASKS: Final = (
    "partitions", "metadata", "arrivals", "adopt", "gauges", "shares", "expire", "retention",
)  # fmt: skip
# While what is read is older than this, nobody knows what has not happened: nothing expires.
BEHIND_S: Final = 60.0


Publish: TypeAlias = Callable[[Sequence[BookingChanges]], Awaitable[None]]


class Maintenance:
    """Periodic work of the database; what changes trips goes through ingest like any event.

    A task that fails is counted and tried again: it is no reason to stop showing positions.
    """

    def __init__(
        self,
        engine: sa.Engine,
        executor: Executor,
        metrics: Metrics,
        offer: Callable[[Batch], None],
        delay_s: Callable[[], float],
        unread_s: Callable[[], float],
        by_day: bool = False,
        rule: Rule = STANDARD,
        retention: Callable[[], Awaitable[None]] | None = None,
        publish: Publish | None = None,
        keep_accesses: timedelta | None = None,
    ) -> None:
        """`delay_s`: by how much this process is behind, at once, on the IOLoop. `unread_s`: how
        old the oldest event is that the consumer group has not stored; on the executor, KafkaError
        or infinite if nobody knows. `by_day`: the partitions of waypoints. `rule`: of the
        verdicts. `retention`: a round of it; None: routes are kept for ever. `publish`: tells
        viewers of arrivals. `keep_accesses`: how long rows of the access log stay.
        """
        self._engine = engine
        self._executor = executor
        self._metrics = metrics
        self._offer = offer
        self._delay_s = delay_s
        self._unread_s = unread_s
        self._by_day = by_day
        self._rule = rule
        self._retention = retention
        self._publish = publish
        self._arrivals = ArrivalWatch(engine, metrics, rule)
        self._keep_accesses = keep_accesses
        self._retention_at = 0.0  # time.monotonic()
        # By the database's clock: acceptances that were looked at once more.
        self._accepted_until: datetime | None = None
        for task in TASKS:  # from the start at 0, so that the first error shows as an increase
            metrics.maintenance_errors.labels(task)
        self._failing: dict[str, str] = {}  # what was said of each task that fails now
        self._postponed: dict[UUID, float] = {}  # tracks, until time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(
            self._repeat("partitions", PARTITIONS_S, self._make_partitions),
            self._repeat("metadata", METADATA_S, self._update_metadata),
            self._repeat("arrivals", ARRIVALS_S, self._note_arrivals),
            self._repeat("adopt", ADOPT_S, self._adopt),
            self._repeat("gauges", EXPIRE_S, self._measure),
            self._repeat("shares", EXPIRE_S, self._delete_closed_shares),
            self._repeat("expire", EXPIRE_S, self._expire),
            self._repeat("retention", EXPIRE_S, self._retain),
        )

    async def _repeat(self, task: str, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            succeeded = await self._attempt(task, work)
            await asyncio.sleep(seconds if succeeded else min(seconds, EXPIRE_S))

    async def _attempt(self, task: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Counts every error; says each kind once, until the task succeeds again."""
        try:
            await work()
        except Exception as error:
            self._metrics.maintenance_errors.labels(task).inc()
            kind = _kind(error)
            if self._failing.get(task) != kind:
                self._failing[task] = kind
                # Of the database its sentence is enough; anything else is a bug.
                trace = None if is_transient(error) else error
                log.warning("maintenance fails, trying on: %s: %s", task, kind, exc_info=trace)
            return False
        if self._failing.pop(task, None) is not None:
            log.info("maintenance works again: %s", task)
        return True

    async def _call(self, function: Callable[..., Any], *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)

    async def _make_partitions(self) -> None:
        await self._call(partitions.ensure_ahead, self._engine, datetime.now(UTC), self._by_day)

    async def _update_metadata(self) -> None:
        now = time.monotonic()
        self._postponed = {id_: until for id_, until in self._postponed.items() if until > now}
        tracks = await self._call(
            waiting_tracks, self._engine, METADATA_TRACKS, list(self._postponed)
        )
        for track_id in tracks:
            try:
                await self._call(
                    update_metadata, self._engine, track_id, self._rule, self._arrivals.settled,
                    settled_fields,
                )  # fmt: skip
            except Exception:
                self._postponed[track_id] = now + POSTPONED_S
                raise
            finally:
                await self._tell(self._arrivals.take())

    async def _note_arrivals(self) -> None:
        await self._call(self._arrivals.look)
        await self._tell(self._arrivals.take())

    async def _tell(self, changes: list[BookingChanges]) -> None:
        if changes and self._publish is not None:
            await self._publish(changes)

    async def _adopt(self) -> None:
        """Two ingest processes may each have missed the other's: one its update, one its track."""
        claimed = await self._call(parking.claimed_bookings, self._engine)
        accepted, until = await self._call(
            parking.accepted_since, self._engine, self._accepted_until
        )
        claimed |= accepted
        # Of those that were erased, ingest forgets what it knows.
        claimed |= set(await self._call(erased_within, self._engine, 2 * EXPIRE_S))
        if claimed:
            self._offer(Batch(adopt=frozenset(claimed)))
        self._accepted_until = until

    async def _measure(self) -> None:
        self._metrics.parked.set(await self._call(parking.count, self._engine))

    async def _delete_closed_shares(self) -> None:
        await self._call(shares.delete_closed, self._engine)
        if self._keep_accesses is not None:
            await self._delete_accesses(datetime.now(UTC) - self._keep_accesses)

    async def _delete_accesses(self, before: datetime) -> None:
        """After a shorter time was set many are old at once: the next rounds go on."""
        for _ in range(ACCESSES_STEPS):
            step = (accesses.delete_before, self._engine, before, ACCESSES_AT_ONCE)
            if await self._call(*step) < ACCESSES_AT_ONCE:
                return

    async def _expire(self) -> None:
        """What time alone decides; only if no event that may decide otherwise lies unread.

        The order matters: what is looked at in the database after Kafka was asked has seen every
        event that was there more than BEHIND_S before.
        """
        if self._delay_s() >= BEHIND_S or not await self._is_anything_due():
            return
        if not await self._is_all_read():
            return
        await self._refuse_what_nobody_claimed()
        await self._end_what_nobody_ended()

    async def _is_all_read(self) -> bool:
        """Nothing lies unread that is older than BEHIND_S."""
        return await self._call(self._unread_s) < BEHIND_S and self._delay_s() < BEHIND_S

    async def _retain(self) -> None:
        """Once an hour, as soon as nothing lies unread: that may say that a trip is not over."""
        now = time.monotonic()
        if self._retention is None or now < self._retention_at or self._delay_s() >= BEHIND_S:
            return
        if not await self._is_all_read():
            return
        await self._retention()
        self._retention_at = now + RETENTION_S

    async def _is_anything_due(self) -> bool:
        """Asking Kafka costs a connection: not twice a minute for nothing."""
        return bool(
            await self._call(parking.is_any_expired, self._engine)
            or await self._call(abandoned_bookings, self._engine)
        )

    async def _refuse_what_nobody_claimed(self) -> None:
        refused = await self._call(parking.expire, self._engine)
        if refused:
            log.warning("%d parked updates refused: no track claimed them", refused)
        self._metrics.expired.inc(refused)

    async def _end_what_nobody_ended(self) -> None:
        abandoned = await self._call(abandoned_bookings, self._engine)
        events = [BookingEvent(booking_id, "abandoned", at) for booking_id, at in abandoned]
        if events:
            log.info("%d trips ended that nobody had ended", len(events))
            self._offer(Batch(events=list(events)))


def _kind(error: Exception) -> str:
    """The same for the same cause: without ids, addresses and the statement."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "pgcode", None)
    return f"{type(cause).__name__}{f' {state}' if state else ''}"
