"""The way of every event: Kafka, database, viewers; put together, started and stopped. IOLoop."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final

import sqlalchemy as sa
from tornado.ioloop import IOLoop

from tracking.domain.verdicts import Rule
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.batch_store import BatchStore
from workers.breaker import Breaker
from workers.ingest import Ingest, Publisher
from workers.kafka.consumer import Consumer
from workers.kafka.dead_letter_sender import DeadLetterSender
from workers.outgoing import Outgoing
from workers.stop import Stop
from workers.tracing import Tracing

log = logging.getLogger("tracking.server")

# What each step of a stop may take at most: a healthy database stores two batches in a second.
DRAIN_S: Final = 5.0
CONSUMER_S: Final = 4.0
DEAD_LETTERS_S: Final = 1.0
OUTGOING_S: Final = 2.0


class Intake:
    """consumer -> ingest -> database -> publisher; and outgoing, which reads the database."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        engine: sa.Engine,
        executor: Executor,
        publisher: Publisher,
        died: Callable[[BaseException], None],
        tracing: Tracing | None = None,
    ) -> None:
        """`executor` has one thread: the store's cache belongs to it."""
        self.breaker = Breaker(metrics)
        self.dead_letters = DeadLetterSender(settings, metrics, died)
        self.consumer = Consumer(settings, metrics, self.dead_letters, self.breaker, died)
        store = BatchStore(
            engine, executor, metrics, self.breaker, settings.partitions_by_day, settings.keep,
            Rule(max_speed_kmh=settings.max_speed_kmh),
        )  # fmt: skip
        self.ingest = Ingest(store, publisher, metrics, settings.batch_records, died, tracing)
        self.outgoing = Outgoing(settings, engine, metrics, died)

    def start(self) -> None:
        """Who is told comes before who tells."""
        self.outgoing.start()
        self.dead_letters.start(self.consumer.acknowledged)
        self.ingest.stored.append(self.consumer.stored)
        self.ingest.stored.append(lambda _: self.outgoing.wake())
        self.consumer.start(partial(IOLoop.current().add_callback, self.ingest.offer))

    def delay_s(self) -> float:
        """How old the oldest event is that Kafka has and the database may not have, in seconds."""
        waited = self.ingest.oldest_wait(time.monotonic())
        return max(self.consumer.lag.delay_s(), waited)

    async def stop(self, stop: Stop) -> None:
        """Read no more, store what was read, commit its offsets, then end the producers."""
        self.consumer.stop()
        await self.ingest.close(stop.share(DRAIN_S))
        await _ended(self.consumer.wait, stop.share(CONSUMER_S), "consumer")
        self.dead_letters.stop()
        self.outgoing.stop()
        await _ended(self.dead_letters.wait, stop.share(DEAD_LETTERS_S), "dead-letters")
        await _ended(self.outgoing.wait, stop.share(OUTGOING_S), "outgoing")


async def _ended(wait: Callable[[float], bool], seconds: float, name: str) -> None:
    """Wait for a thread's end without waiting on the loop: the thread may need the loop."""
    if not await asyncio.to_thread(wait, seconds):
        log.warning("the %s thread did not end within %.1f s", name, seconds)
