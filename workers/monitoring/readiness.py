"""Does everything do its part? Asked by the load balancer, and by whoever is woken at night."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import sqlalchemy as sa

from tracking.errors import SchemaOutdated
from tracking.store.engine import check_schema
from workers.ingest import Ingest
from workers.kafka.consumer import Consumer
from workers.kafka.dead_letters import DeadLetters
from workers.outgoing import Outgoing

# A poll() returns twice a second.
POLL_LIMIT_S: Final = 60.0
# Longer than a broker's restart, shorter than anybody's patience.
UNREACHABLE_LIMIT_S: Final = 30.0
# A record that is read and not stored for so long: viewers see old positions.
UNSTORED_LIMIT_S: Final = 60.0
# An event goes out within a second or two, and is looked at once in each round.
OUTGOING_USUAL_S: Final = 3.0
OUTGOING_LIMIT_S: Final = 60.0
DATABASE_TIMEOUT_S: Final = 1.8


class Readiness:
    """IOLoop thread."""

    def __init__(
        self,
        engine: sa.Engine,
        executor: Executor,
        revision: str,
        consumer: Consumer,
        ingest: Ingest,
        dead_letters: DeadLetters,
        outgoing: Outgoing,
        keys: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._revision = revision
        self._consumer = consumer
        self._ingest = ingest
        self._dead_letters = dead_letters
        self._outgoing = outgoing
        self._keys = keys

    async def check(self) -> dict[str, str]:
        """Each part: "ok", perhaps with a remark after a comma, or what is wrong."""
        database, schema = await self._database()
        return {
            "database": database,
            "schema": schema,
            "kafka": self._kafka(),
            "consumer": self._polling(),
            "ingest": self._unstored(),
            "dead_letters": self._letters(),
            "outgoing": self._waiting(),
            "keys": self._keys(),
        }

    async def _database(self) -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._executor, self._ask_database)
        done, _ = await asyncio.wait([call], timeout=DATABASE_TIMEOUT_S)
        return call.result() if done else ("does not answer", "unknown")

    def _ask_database(self) -> tuple[str, str]:
        """Executor thread."""
        try:
            with self._engine.connect() as connection:
                check_schema(connection, self._revision)
        except SchemaOutdated as error:
            return "ok", str(error)
        except sa.exc.SQLAlchemyError:
            return "not reachable", "unknown"
        return "ok", "ok"

    def _kafka(self) -> str:
        consumer = self._consumer
        if not consumer.connected:
            return "no broker answers"
        away = consumer.lag.unreachable_s()
        if away > UNREACHABLE_LIMIT_S:
            return f"no broker has answered for {away:.0f} s"
        missing = consumer.lag.partitions - consumer.assigned
        if missing > 0:
            # Viewers here would see only what this process stores.
            return (
                f"{missing} partitions belong to another member of"
                " the consumer group: set KAFKA_GROUP_ID to a group of this process's own, or"
                " stop the other one"
            )
        return "ok"

    def _polling(self) -> str:
        for (topic, partition), reason in list(self._consumer.stopped.items()):
            return f"partition {topic}/{partition} is stopped: {reason}"
        silent = time.monotonic() - self._consumer.last_poll
        if silent >= POLL_LIMIT_S:
            return f"poll() has not returned for {silent:.0f} s"
        return "ok" if self._consumer.connected else "not connected"

    def _unstored(self) -> str:
        age = self._ingest.oldest_wait(time.monotonic())
        return "ok" if age < UNSTORED_LIMIT_S else f"a batch has waited {age:.0f} s to be stored"

    def _letters(self) -> str:
        """Partitions wait for their letters, and so do the viewers."""
        since = self._dead_letters.failing_since
        waited = 0.0 if since is None else time.monotonic() - since
        return "ok" if waited < UNSTORED_LIMIT_S else f"Kafka has refused them for {waited:.0f} s"

    def _waiting(self) -> str:
        """A remark only: viewers and requests don't depend on what goes out."""
        age = self._outgoing.age()
        if age < OUTGOING_USUAL_S:
            return "ok"
        late = ", look at tracking.events" if age >= OUTGOING_LIMIT_S else ""
        return f"ok, the oldest event waits {age:.0f} s{late}"
