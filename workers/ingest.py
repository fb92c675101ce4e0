"""Batches into the database, one transaction at a time. IOLoop thread.

While one batch is being written the next one gathers: the busier the service, the larger its
transactions, with no timer and no tuning.
"""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from functools import partial
from typing import Final

import sqlalchemy as sa

from tracking.domain.events import BOOKING_KINDS, BookingEvent, Event
from tracking.live.broadcast import Broadcast
from tracking.metrics import Metrics
from tracking.store.engine import is_poison, is_transient
from tracking.store.ingest import parking
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.ingest.track_cache import TrackCache
from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter

log = logging.getLogger("tracking.ingest")

# Between two tries while the database is away; jitter keeps two processes from trying in step.
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 2.0

TYPE_OF_KIND: Final = {kind: type_ for type_, kind in BOOKING_KINDS.items()}


class Ingest:
    """Stores what the consumer hands over, then tells the relay, then the consumer."""

    def __init__(
        self,
        engine: sa.Engine,
        executor: Executor,
        relay: Broadcast,
        metrics: Metrics,
        batch_records: int,
        died: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._relay = relay
        self._metrics = metrics
        self._batch_records = batch_records
        # Told of each batch after its commit: the consumer, and who sends events out.
        self.stored: list[Callable[[Batch], None]] = []
        self._died = died
        self._known = TrackCache()  # the executor's one thread
        self._waiting: deque[Batch] = deque()
        self._current: Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._stopped = False

    def offer(self, batch: Batch) -> None:
        """Take a batch; it is stored as soon as the one before it is. IOLoop thread."""
        self._waiting.append(batch)
        if self._task is None and not self._stopped:
            self._task = asyncio.create_task(self._drain())

    def oldest_wait(self, now: float) -> float:
        """Seconds that the oldest batch has been here without being stored; 0 if none is.

        Not the records' own age: a backlog from yesterday that flows is no trouble.
        """
        oldest = self._current or (self._waiting[0] if self._waiting else None)
        return 0.0 if oldest is None else max(now - oldest.taken_at, 0.0)

    async def close(self, timeout_s: float) -> bool:
        """Store what was taken; False if the database does not take it in time."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=timeout_s)
        self._stopped = True
        if self._publishing is not None:
            await self._publishing
        if task is None or task.done():
            return True
        task.cancel()
        log.warning("records left unstored for the next start: their offsets are not committed")
        return False

    async def _drain(self) -> None:
        try:
            while self._waiting and not self._stopped:
                self._current = self._next()
                await self._store(self._current)
        except Exception as error:
            log.exception("ingest died")
            self._died(error)
        finally:
            self._current = self._task = None

    def _next(self) -> Batch:
        """Everything that waits, up to the size of one transaction."""
        batch = self._waiting.popleft()
        while self._waiting and batch.size + self._waiting[0].size <= self._batch_records:
            batch.extend(self._waiting.popleft())
        return batch

    async def _store(self, batch: Batch) -> None:
        started = time.perf_counter()
        stored, outcomes = await self._store_events(batch)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)
        self._metrics.batch_size.observe(batch.size)
        self._metrics.count_events(outcomes + batch.outcomes)
        self._metrics.count_dropped(batch.dropped)
        for tell in self.stored:
            tell(batch)
        for result in stored:
            self._metrics.waypoints.inc(len(result.waypoints))
            self._metrics.adopted.inc(result.adopted)
            for reason, number in result.refusals.items():
                self._metrics.refused.labels(reason).inc(number)
            await self._publish(result)

    async def _store_events(self, batch: Batch) -> tuple[list[Stored], Counter[tuple[str, str]]]:
        """One transaction, unless an event is poison: then halves, until it stands alone."""
        if not batch.events and not batch.adopt:
            return [], Counter()
        try:
            result = await self._store_whole(batch)
            return [result], _outcomes(result)
        except Exception as error:
            if not is_poison(error):
                raise
            if len(batch.events) <= 1:
                return await self._store_suspect(batch, error)
        half = len(batch.events) // 2
        results: list[Stored] = []
        outcomes: Counter[tuple[str, str]] = Counter()
        for part in (slice(None, half), slice(half, None)):
            smaller = Batch(
                batch.events[part], batch.records[part], dead=batch.dead, adopt=batch.adopt
            )
            more, counts = await self._store_events(smaller)
            results += more
            outcomes += counts
        return results, outcomes

    async def _store_suspect(
        self, batch: Batch, error: Exception
    ) -> tuple[list[Stored], Counter[tuple[str, str]]]:
        """What was refused and cannot be halved, once more, without the parked updates it adopts.

        They may be the poison, and the sweep brings them again. Or two processes have made the same
        partition at once: then the second try finds it.
        """
        if not batch.events:
            return await self._adopt_one_by_one(batch), Counter()
        try:
            result = await self._store_whole(batch, parked=())
            return [result], _outcomes(result)
        except Exception as again:
            if not is_poison(again):
                raise
        return [], self._dead(batch, error)

    async def _adopt_one_by_one(self, batch: Batch) -> list[Stored]:
        """Among parked updates is one that the database refuses: the others are stored."""
        loop, results = asyncio.get_running_loop(), []
        ids = await loop.run_in_executor(
            self._executor, parking.waiting_ids, self._engine, batch.adopt
        )
        for id_ in ids:
            try:
                results.append(await self._store_whole(batch, parked=(id_,)))
            except Exception as error:
                if not is_poison(error):
                    raise
                log.error("a parked update cannot be stored, refused: %s", _brief(error))
                self._metrics.expired.inc()
                await loop.run_in_executor(self._executor, parking.refuse, self._engine, id_)
        return results

    async def _store_whole(self, batch: Batch, parked: Collection[int] | None = None) -> Stored:
        """The whole transaction, tried for ever while the reason is transient."""
        store = partial(store_batch, self._engine, batch.events, batch.adopt, self._known, parked)
        wait = FIRST_RETRY_S
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._executor, store)
            except Exception as error:
                if not is_transient(error):
                    raise
                if wait == FIRST_RETRY_S:
                    log.warning(
                        "batch of %d not stored, trying on: %s", len(batch.events), _brief(error)
                    )
                self._metrics.batch_retries.inc()
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LAST_RETRY_S)

    def _dead(self, batch: Batch, error: Exception) -> Counter[tuple[str, str]]:
        """The single event of a batch that the database refuses becomes a dead letter."""
        reason = f"cannot be stored: {_brief(error)}"
        if not isinstance(error, sa.exc.DBAPIError):  # a bug of ours, or nearly
            log.error("an event could not be stored", exc_info=error)
        for record in batch.records:
            batch.dead.append(DeadLetter(record, reason))
            log.error("event in %s/%s at offset %s %s",
                      record.topic, record.partition, record.offset, reason)  # fmt: skip
        return Counter((_type(event), "dead") for event in batch.events)

    async def _publish(self, stored: Stored) -> None:
        """In order, and beside the next transaction."""
        if self._publishing is not None:
            await self._publishing
        self._publishing = asyncio.create_task(self._relay.publish(stored.bookings))


def _type(event: Event) -> str:
    if isinstance(event, BookingEvent):
        return TYPE_OF_KIND.get(event.kind, "other")
    return "runner.location_update"


def _outcomes(stored: Stored) -> Counter[tuple[str, str]]:
    counts = Counter({("runner.location_update", o): n for o, n in stored.update_outcomes.items()})
    for (kind, outcome), number in stored.fact_outcomes.items():
        if kind in TYPE_OF_KIND:  # what maintenance adds is no event from Kafka
            counts[TYPE_OF_KIND[kind], outcome] += number
    return counts


def _brief(error: Exception) -> str:
    """The server's message without its DETAIL, which quotes the data."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
