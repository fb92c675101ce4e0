"""Store functions called from the IOLoop: threads and connections of their own, a bounded queue.

Each kind of work has its own, so that long reads hold up neither joins nor readiness.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

import sqlalchemy as sa

from tracking.errors import DatabaseUnavailable
from tracking.metrics import Metrics

R = TypeVar("R")

# A caller hears of a database that hangs within two seconds, whatever the driver waits for.
REQUEST_TIMEOUT_S: Final = 1.8
# ... and PostgreSQL gives up a statement before that: nobody would read its result.
REQUEST_STATEMENT_S: Final = 1.7
# A page of a route takes milliseconds; the slowest statement looks at a whole route.
READ_TIMEOUT_S: Final = 10.0
READ_STATEMENT_S: Final = 9.0
# So many a thread wait at the most; the next one is told to come back. A statement takes 1 to 3 ms.
WAITING_PER_THREAD: Final = 250


class StoreCalls:
    """IOLoop thread. `threads`: how many functions run at once, each with one connection."""

    def __init__(
        self, engine: sa.Engine, name: str, threads: int, timeout_s: float, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(threads, name)
        self._timeout_s = timeout_s
        self._most = threads * (1 + WAITING_PER_THREAD)
        self._under_way = 0
        self._metrics = metrics

    def connect(self) -> None:
        """Have a connection before one is needed; a database that is away is asked again later.

        While PostgreSQL stops the smart way it serves those that are open, and opens no others.
        """
        self._executor.submit(_connect, self._engine)

    async def ask(self, function: Callable[..., R], *arguments: object) -> R:
        """A store function's answer; raises DatabaseUnavailable if it takes too long.

        What has not begun by then, or is not waited for any more, never runs.
        """
        self._metrics.database_calls.labels(function.__name__).inc()
        if self._under_way >= self._most:
            raise DatabaseUnavailable("too many requests wait for the database")
        future = self._executor.submit(function, self._engine, *arguments)
        call = asyncio.wrap_future(future)
        self._under_way += 1
        call.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait([call], timeout=self._timeout_s)
        finally:
            # At once: `call.cancel()` tells the executor one iteration of the loop later, and a
            # thread may have begun with it by then. No effect on a call that is done.
            future.cancel()
            call.cancel()
        if not done:
            raise DatabaseUnavailable("the database does not answer")
        return call.result()

    def _ended(self, call: "asyncio.Future[R]") -> None:
        self._under_way -= 1
        if not call.cancelled():
            call.exception()  # who asked may be gone

    def close(self) -> None:
        """What has not begun never will; a function that runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _connect(engine: sa.Engine) -> None:
    with suppress(sa.exc.SQLAlchemyError):
        engine.connect().close()  # the pool keeps it
