"""Does everything do its part? Asked by the load balancer, and by whoever is woken at night."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import sqlalchemy as sa

from tracking.errors import SchemaOutdated
from tracking.store.engine import check_schema
from workers.intake import Intake

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
        intake: Intake,
        keys: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._revision = revision
        self._intake = intake
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
            "dead_letters": self._unkept(),
            "outgoing": self._waiting(),
            "keys": self._keys(),
        }

    async def _database(self) -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._executor, self._ask_database)
        done, _ = await asyncio.wait([call], timeout=DATABASE_TIMEOUT_S)
        call.cancel()  # a probe that has not begun is not wanted any more
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
        consumer = self._intake.consumer
        if not consumer.connected:
            return "no broker answers"
        away = consumer.lag.unreachable_s()
        if away > UNREACHABLE_LIMIT_S:
            return f"no broker has answered for {away:.0f} s"
        missing = consumer.lag.partitions - consumer.assigned
        if not consumer.assigned and not consumer.joined:
            return "has not joined its consumer group yet"
        if not consumer.assigned and not missing:
            return "ok, no topic to read exists yet"
        if missing > 0:
            # Viewers here would see only what this process stores.
            return (
                f"{missing} partitions belong to another member of"
                " the consumer group: set KAFKA_GROUP_ID to a group of this process's own, or"
                " stop the other one"
            )
        return "ok"

    def _polling(self) -> str:
        for (topic, partition), reason in list(self._intake.consumer.stopped.items()):
            return f"partition {topic}/{partition} is stopped: {reason}"
        silent = time.monotonic() - self._intake.consumer.last_poll
        if silent >= POLL_LIMIT_S:
            return f"poll() has not returned for {silent:.0f} s"
        if not self._intake.consumer.connected:
            return "not connected"
        return "ok" + "".join(
            f", {partition.topic}/{partition.partition} waits for a producer's transaction that has"
            f" been open for {age:.0f} s"
            for partition, age in self._intake.consumer.lag.open_transactions().items()
        )

    def _unstored(self) -> str:
        if self._intake.breaker.reason is not None:
            return f"stopped by {self._intake.breaker.reason}"
        age = self._intake.ingest.oldest_wait(time.monotonic())
        return "ok" if age < UNSTORED_LIMIT_S else f"a batch has waited {age:.0f} s to be stored"

    def _unkept(self) -> str:
        """Partitions wait for their dead letters, and so do the viewers."""
        since = self._intake.dead_letters.failing_since
        waited = 0.0 if since is None else time.monotonic() - since
        return (
            "ok" if waited < UNSTORED_LIMIT_S else f"Kafka has not accepted them for {waited:.0f} s"
        )

    def _waiting(self) -> str:
        """A remark only: viewers and requests don't depend on what goes out."""
        age = self._intake.outgoing.age()
        if age < OUTGOING_USUAL_S:
            return "ok"
        late = ", look at tracking.events" if age >= OUTGOING_LIMIT_S else ""
        return f"ok, the oldest event waits {age:.0f} s{late}"
