"""Batches into the database, one transaction at a time. IOLoop thread.

While one batch is being written the next one gathers: the busier the service, the larger its
transactions, with no timer and no tuning.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from tracking.domain.changes import BookingChanges
from tracking.metrics import Metrics
from tracking.store.ingest.batch import Stored
from workers.batch_store import BatchStore
from workers.breaker import IntakeStopped
from workers.kafka.batches import Batch
from workers.tracing import Tracing

log = logging.getLogger("tracking.ingest")

# Publishing does not wait for viewers: milliseconds are usual.
PUBLISH_S: Final = 2.0


class Publisher(Protocol):
    """Who tells the viewers: the broadcast of this process, or the relay to others."""

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        """In order, one call at a time."""


class Ingest:
    """Stores what the consumer hands over, tells the consumer, then publishes what changed."""

    def __init__(
        self,
        store: BatchStore,
        publisher: Publisher,
        metrics: Metrics,
        batch_records: int,
        died: Callable[[BaseException], None],
        tracing: Tracing | None = None,
    ) -> None:
        self._store_batch = store.store
        self._publisher = publisher
        self._metrics = metrics
        self._batch_records = batch_records
        # Told of each batch after its commit: the consumer, and who sends events out.
        self.stored: list[Callable[[Batch], None]] = []
        self._died = died
        self._tracing = tracing
        self._waiting: deque[Batch] = deque()
        self._current: Batch | None = None
        self._task: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._stopped = False

    def offer(self, batch: Batch) -> None:
        """Store a batch as soon as the one before it is stored. IOLoop thread."""
        if self._stopped:
            return  # its offsets are not committed: the next start reads it again
        self._waiting.append(batch)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())

    def oldest_wait(self, now: float) -> float:
        """Seconds that the oldest batch has been here without being stored; 0 if none is.

        Not the records' own age: a backlog from yesterday that flows is no trouble.
        """
        oldest = self._current or (self._waiting[0] if self._waiting else None)
        return 0.0 if oldest is None else max(now - oldest.taken_at, 0.0)

    async def close(self, timeout_s: float) -> bool:
        """Store and publish what was offered; False if there is no time for all. Never raises."""
        task = self._task
        if task is not None:
            await asyncio.wait([task], timeout=timeout_s)
        self._stopped = True
        if self._publishing is not None:
            await asyncio.wait([self._publishing], timeout=PUBLISH_S)
        if task is None or task.done():
            return True
        task.cancel()
        log.warning("records left unstored for the next start: their offsets are not committed")
        return False

    async def _drain(self) -> None:
        try:
            while self._waiting and not self._stopped:
                self._current = self._next()
                await self._trace(self._current)
                self._current = None
        except IntakeStopped:
            self._stopped = True  # the batch waits for another version, its offsets with it
        except Exception as error:
            log.exception("ingest died")
            self._died(error)
        finally:
            self._task = None

    def _next(self) -> Batch:
        """Everything that waits, up to the size of one transaction."""
        batch = self._waiting.popleft()
        while self._waiting and batch.size + self._waiting[0].size <= self._batch_records:
            batch.extend(self._waiting.popleft())
        return batch

    async def _trace(self, batch: Batch) -> None:
        if self._tracing is None:
            await self._store(batch, nullcontext())
            return
        with self._tracing.batch(batch):
            await self._store(batch, self._tracing.step("store batch"))

    async def _store(self, batch: Batch, storing: AbstractContextManager[None]) -> None:
        started = time.perf_counter()
        with storing:
            stored, outcomes = await self._store_batch(batch)
        self._metrics.batch_seconds.observe(time.perf_counter() - started)
        for result in stored:
            await self._publish(result)
        # Whoever is told wakes a thread, which takes the interpreter: viewers come first.
        await asyncio.sleep(0)
        for tell in self.stored:
            tell(batch)
        self._count(batch, stored, outcomes)

    def _count(
        self, batch: Batch, stored: list[Stored], outcomes: Counter[tuple[str, str]]
    ) -> None:
        self._metrics.batch_size.observe(batch.size)
        self._metrics.count_events(outcomes + batch.outcomes)
        self._metrics.count_dropped(batch.dropped)
        for result in stored:
            self._metrics.waypoints.inc(len(result.waypoints))
            self._metrics.adopted.inc(result.adopted)
            self._metrics.verdicts.count(result.verdicts)
            for reason, number in result.refusals.items():
                self._metrics.refused.labels(reason).inc(number)

    async def _publish(self, stored: Stored) -> None:
        """In order, and beside the next transaction."""
        if self._publishing is not None:
            await asyncio.wait([self._publishing])
        self._publishing = asyncio.create_task(self._publisher.publish(stored.bookings))
        self._publishing.add_done_callback(self._published)

    def _published(self, publishing: asyncio.Task[None]) -> None:
        """Viewers may have missed something: the process ends, they come back and catch up."""
        if publishing.cancelled() or (error := publishing.exception()) is None:
            return
        log.error("publishing failed", exc_info=error)
        self._metrics.publish_failures.inc()
        self._died(error)
