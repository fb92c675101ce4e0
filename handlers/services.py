"""What every handler may use; built once in server.py."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

import sqlalchemy as sa

from handlers.limits import Limits
from tracking.errors import DatabaseUnavailable
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.tokens import Tokens

R = TypeVar("R")

# A caller hears of a database that hangs within two seconds, whatever the driver waits for.
DATABASE_TIMEOUT_S: Final = 1.8


@dataclass(frozen=True)
class Services:
    """IOLoop thread; `ask` crosses to the executor."""

    settings: Settings
    engine: sa.Engine
    executor: Executor
    tokens: Tokens
    rooms: Rooms
    metrics: Metrics
    # Each check's answer: "ok", or what is wrong and what to do.
    readiness: Callable[[], Awaitable[dict[str, str]]]
    limits: Limits
    # By how many seconds our own pipeline is behind what Kafka has.
    delay_s: Callable[[], float]

    async def ask(self, function: Callable[..., R], *arguments: object) -> R:
        """A store function's answer; raises DatabaseUnavailable when it takes too long."""
        self.metrics.database_calls.labels(function.__name__).inc()
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self.executor, function, self.engine, *arguments)
        try:
            return await asyncio.wait_for(asyncio.shield(call), DATABASE_TIMEOUT_S)
        except TimeoutError:
            call.add_done_callback(_forget)
            raise DatabaseUnavailable("the database does not answer") from None


def _forget(call: "asyncio.Future[R]") -> None:
    """The caller is gone: what the database says now, nobody wants to hear."""
    if not call.cancelled():
        call.exception()
