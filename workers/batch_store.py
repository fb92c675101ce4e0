"""One batch into the database: tried until it is stored, halved until its poison stands alone.

IOLoop thread; the transactions run in the executor's one thread.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Collection
from concurrent.futures import Executor
from datetime import timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa

from tracking.domain.events import BOOKING_KINDS, BookingEvent, Event
from tracking.domain.verdicts import STANDARD, Rule
from tracking.metrics import Metrics
from tracking.store.engine import is_bug, is_poison, is_transient
from tracking.store.ingest import parking
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.ingest.track_cache import TrackCache
from workers.breaker import Breaker
from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter, coordinates_of

log = logging.getLogger("tracking.ingest")

# Between two tries while the database is away; jitter keeps two processes from trying in step.
FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 2.0

TYPE_OF_KIND: Final = {kind: type_ for type_, kind in BOOKING_KINDS.items()}


class BatchStore:
    """Stores batches; one call at a time."""

    def __init__(
        self,
        engine: sa.Engine,
        executor: Executor,
        metrics: Metrics,
        breaker: Breaker,
        by_day: bool = False,
        keep: timedelta | None = None,
        rule: Rule = STANDARD,
    ) -> None:
        """`by_day`, `keep`: the partitions of waypoints that are made; `rule`: their verdicts'."""
        self._engine = engine
        self._executor = executor
        self._metrics = metrics
        self._breaker = breaker
        self._known = TrackCache(by_day=by_day, keep=keep, rule=rule)  # the executor's one thread

    async def store(self, batch: Batch) -> tuple[list[Stored], Counter[tuple[str, str]]]:
        """One transaction, unless an event is poison: then halves, until it stands alone."""
        if not batch.events and not batch.adopt:
            return [], Counter()
        try:
            result = await self._store_whole(batch)
            if self._breaker.has_suspects:
                for event in batch.events:
                    self._breaker.succeeded("store", _type(event))
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
                batch.events[part], batch.records[part], poison=batch.poison, adopt=batch.adopt
            )
            more, counts = await self.store(smaller)
            results += more
            outcomes += counts
        return results, outcomes

    async def _store_suspect(
        self, batch: Batch, error: Exception
    ) -> tuple[list[Stored], Counter[tuple[str, str]]]:
        """What was rejected and cannot be halved, once more, without the parked updates it adopts.

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
        """Among parked updates is one that the database rejects: the others are stored."""
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
        """The single event of a batch that the database rejects becomes a dead letter."""
        reason = f"cannot be stored: {_brief(error)}"
        if not isinstance(error, sa.exc.DBAPIError):  # a bug of ours, or nearly
            log.error("an event could not be stored", exc_info=error)
        if is_bug(error):
            for event, record in zip(batch.events, batch.records, strict=False):
                self._breaker.failed("store", _type(event), record, error)
        for record in batch.records:
            batch.poison.append(DeadLetter(record, reason))
            source = coordinates_of(record)
            log.error("event in %s/%s at offset %s %s",
                      source.topic, source.partition, source.offset, reason)  # fmt: skip
        return Counter((_type(event), "dead") for event in batch.events)


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
