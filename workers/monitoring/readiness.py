"""Does everything do its part? Asked by the load balancer, and by whoever is woken at night."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

import sqlalchemy as sa

from tracking.errors import SchemaOutdated
from tracking.store.engine import check_schema

DATABASE_TIMEOUT_S: Final = 1.8

# "ok", perhaps with a remark after a comma, or what is wrong.
Check = Callable[[], str]


class Readiness:
    """IOLoop thread."""

    def __init__(
        self,
        engine: sa.Engine,
        executor: Executor,
        revision: str,
        checks: Mapping[str, Check],
    ) -> None:
        """`checks`: of the parts that this process has; called on the IOLoop."""
        self._engine = engine
        self._executor = executor
        self._revision = revision
        self._checks = checks

    async def check(self) -> dict[str, str]:
        """Each part: "ok", perhaps with a remark after a comma, or what is wrong."""
        database, schema = await self._database()
        parts = {name: check() for name, check in self._checks.items()}
        return {"database": database, "schema": schema, **parts}

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
