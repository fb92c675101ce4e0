"""What every role is built with: connections, threads and jobs that end with the process."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, Protocol

import sqlalchemy as sa
from tornado.routing import URLSpec

from handlers.application import http_server, listen
from handlers.http_server import PatientServer
from handlers.link_check import ANSWER_S
from handlers.services import ManagementServices
from handlers.websocket.ticker import DRAIN_LEAST_S, Everybody, close_all, drain_s
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.calls import READ_TIMEOUT_S, REQUEST_TIMEOUT_S, StoreCalls
from tracking.store.engine import create_engine, expected_revision
from workers.monitoring.readiness import Check, Readiness
from workers.stop import Stop
from workers.supervisor import Supervisor, inherited_sockets, tell_supervisor
from workers.tracing import Tracing, tracing_of

log = logging.getLogger("tracking.server")

# The name of a socket unit's descriptor that is for MANAGEMENT_PORT.
MANAGEMENT: Final = "management"
# A thread's call into a library may take so long; then it stands still.
STANDS_S: Final = 60.0
# What letting the clients go may take, beside the time over which viewers are told.
VIEWERS_S: Final = 1.5
REQUESTS_S: Final = 2.0
CLOSING_S: Final = 0.2
# Spans that are left.
TRACING_S: Final = 1.0
TIMEOUTS_S: Final = {
    "requests": REQUEST_TIMEOUT_S, "reads": READ_TIMEOUT_S, "transactions": READ_TIMEOUT_S,
    "links": ANSWER_S,
}  # fmt: skip


class Worker(Protocol):
    """What has a thread of its own."""

    def stop(self) -> None:
        """Begin to end."""

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended by then."""


class Building:
    """Of one process; what is begun first ends last. IOLoop thread."""

    def __init__(self, stack: AsyncExitStack, settings: Settings, stop: Stop) -> None:
        self.stack = stack
        self.settings = settings
        self.stop = stop
        self.metrics = Metrics()
        self.engines: dict[str, sa.Engine] = {}
        self.supervisor = Supervisor()
        self.tracing: Tracing | None = None
        # time.monotonic() of the last sign of life of each thread that must not stand still.
        self.signs: list[Callable[[], float]] = []

    def _is_alive(self) -> bool:
        now = time.monotonic()
        return all(now - sign() < STANDS_S for sign in self.signs)

    def start_tracing(self, role: str) -> None:
        """Before what makes spans, so that it ends behind it."""
        self.tracing = tracing_of(self.settings, role)
        if self.tracing is not None:
            self.ends_with(self.tracing, TRACING_S, "tracing")

    def engine(self, name: str, size: int, statement_s: float = 30) -> sa.Engine:
        """A pool of connections; `name` is what PostgreSQL shows."""
        asks = name != "ingest"  # one statement at a time; a failed one is the client's to repeat
        engine = create_engine(
            self.settings, name=name, pool_size=size, statement_timeout_s=statement_s, ping=asks,
            autocommit=asks,
        )  # fmt: skip
        self.stack.callback(engine.dispose)
        self.engines[name] = engine
        return engine

    def transactions(self, name: str, size: int, statement_s: float) -> sa.Engine:
        """As `engine`, for transactions of several statements: to PostgreSQL itself."""
        engine = create_engine(
            self.settings, name=name, pool_size=size, statement_timeout_s=statement_s
        )
        self.stack.callback(engine.dispose)
        self.engines[name] = engine
        return engine

    def calls(self, engine: sa.Engine, name: str, threads: int) -> StoreCalls:
        """Store functions called from the loop."""
        calls = StoreCalls(engine, name, threads, TIMEOUTS_S[name], self.metrics)
        self.stack.callback(calls.close)
        calls.connect()
        return calls

    def threads(self, name: str, size: int = 1) -> Executor:
        executor = ThreadPoolExecutor(size, name)
        self.stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        return executor

    def readiness(self, engine: sa.Engine, checks: dict[str, Check]) -> Readiness:
        """The database, and the parts that this role has."""
        return Readiness(engine, self.threads("readiness"), expected_revision(), checks)

    def start_jobs(self, *jobs: Coroutine[Any, Any, None]) -> None:
        """Background coroutines that live as long as the server; one that fails ends it."""
        for job in jobs:
            task = asyncio.create_task(job)
            task.add_done_callback(self._ended)
            self.stack.callback(task.cancel)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background job failed", exc_info=error)
            self.stop.died(error)

    def ends_with(self, worker: Worker, seconds: float, name: str) -> None:
        """A thread that is told to stop, and waited for without waiting on the loop."""
        self.stack.push_async_callback(self._end, worker, seconds, name)

    async def _end(self, worker: Worker, seconds: float, name: str) -> None:
        worker.stop()
        if not await asyncio.to_thread(worker.wait, self.stop.share(seconds)):
            log.warning("the %s thread did not end within %.1f s", name, seconds)

    def serve(
        self,
        services: ManagementServices,
        main: Sequence[URLSpec],
        management: Sequence[URLSpec],
        viewers: Everybody | None = None,
    ) -> None:
        """Open the ports; at the end close them, then let the viewers go, then what is left."""
        settings = self.settings
        servers = [http_server(main, services)]
        sockets = inherited_sockets()
        inherited = [s for name, found in sockets.items() if name != MANAGEMENT for s in found]
        listen(servers[0], settings.service_address, settings.service_port, "listening", inherited)
        if settings.management_port is not None:
            servers.append(http_server(management, services))
            port = settings.management_port
            inherited = sockets.get(MANAGEMENT, [])
            listen(
                servers[1], settings.management_address, port, "metrics and readiness", inherited
            )
        self.start_jobs(tell_supervisor(self.supervisor, services.readiness, self._is_alive))
        for each in servers:
            self.stack.push_async_callback(self._finish, each)
        if viewers is not None:
            self.stack.push_async_callback(self._drain, viewers)
        for each in servers:
            self.stack.callback(each.stop)

    async def _finish(self, server: PatientServer) -> None:
        """Who has asked gets an answer; the rest of the step is for closing."""
        finish = partial(server.finish, self.stop.share(REQUESTS_S) - CLOSING_S)
        await self.stop.within(REQUESTS_S, "requests", finish)

    async def _drain(self, viewers: Everybody) -> None:
        """At a rate that others can take; the stop lasts as much longer."""
        seconds = drain_s(sum(1 for _ in viewers()))
        self.stop.allow(seconds - DRAIN_LEAST_S)
        await self.stop.within(seconds + VIEWERS_S, "viewers", partial(close_all, viewers))
