"""The live trip-tracking server: reads Settings, builds everything, runs until a signal."""

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from handlers import main_routes, management_routes
from handlers.application import descriptors, http_server, listen
from handlers.grace import Grace
from handlers.limits import Limits
from handlers.link_check import ANSWER_S, LINK_THREADS, check_links
from handlers.link_viewers import LinkViewers
from handlers.openings import Openings
from handlers.services import Services
from handlers.websocket.ticker import close_all, tick_viewers
from tracking import __version__, logs
from tracking.errors import SettingsError
from tracking.keys import KeySet
from tracking.live.broadcast import Broadcast
from tracking.live.fleet import Fleet, tell_fleet
from tracking.live.freshness import tell_freshness
from tracking.live.rooms import Rooms
from tracking.live.sender import fastest_sender
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.calls import (
    READ_STATEMENT_S,
    READ_TIMEOUT_S,
    REQUEST_STATEMENT_S,
    REQUEST_TIMEOUT_S,
    StoreCalls,
)
from tracking.store.engine import create_engine, expected_revision
from tracking.store.shares import still_open
from tracking.tokens import Tokens, tokens_of
from workers.connection_check import check_connections
from workers.intake import Intake
from workers.jwks import KeyFetcher
from workers.kafka.unread import oldest_unread_s
from workers.maintenance import Maintenance
from workers.monitoring.readiness import Readiness
from workers.monitoring.watchdog import measure_loop, measure_parts, watch_consumer
from workers.stop import EXIT_FAILED, Stop

log = logging.getLogger("tracking.server")

# What letting the clients go may take: viewers are told over three seconds.
VIEWERS_S: Final = 4.5
REQUESTS_S: Final = 2.0
# What the process needs besides viewers: databases, Kafka, logs, requests.
RESERVED_DESCRIPTORS: Final = 200
# Whole routes at once; each is read a page at a time, so more of them take turns.
READ_THREADS: Final = 4
TIMEOUTS_S: Final = {"requests": REQUEST_TIMEOUT_S, "reads": READ_TIMEOUT_S, "links": ANSWER_S}
# A busy Python thread gives way to the loop after so long (CPython's default is 5 ms).
SWITCH_INTERVAL_S: Final = 0.0005
# A collection of young objects every 50,000 allocations; old ones are few and rarely die.
GC_THRESHOLDS: Final = (50_000, 20, 100)

EXIT_SETTINGS: Final = 2


async def serve(settings: Settings, stop: Stop) -> int:
    """Build everything in order, run until told to stop, stop in reverse; the exit status."""
    async with AsyncExitStack() as stack:
        metrics, rooms, tokens = Metrics(), Rooms(), tokens_of(settings)
        fleet, writes = Fleet(metrics), _engine(stack, settings, "ingest", 4)
        # One connection more than threads: readiness has a thread of its own.
        size = settings.db_pool_size + 1
        requests = _engine(stack, settings, "requests", size, REQUEST_STATEMENT_S)
        reads = _engine(stack, settings, "reads", READ_THREADS, READ_STATEMENT_S)

        broadcast = Broadcast(rooms, metrics, fastest_sender(), fleet)
        intake = Intake(
            settings, metrics, writes, _threads(stack, "ingest", 1), broadcast, stop.died
        )
        intake.start()
        stack.push_async_callback(intake.stop, stop)

        services = Services(
            settings,
            _calls(stack, requests, "requests", settings.db_pool_size, metrics),
            _calls(stack, reads, "reads", READ_THREADS, metrics),
            tokens, rooms, fleet, metrics, _readiness(stack, requests, intake, tokens).check,
            Limits(settings, _max_viewers(settings)), intake.delay_s,
            Grace(settings.unknown_booking_grace, intake.delay_s), LinkViewers(), Openings(),
        )  # fmt: skip
        _start_link_check(stack, services, stop)
        jobs = _jobs(services, intake, stop)
        jobs += [_maintenance(stack, settings, metrics, writes, intake).run()]
        _start_jobs(stack, jobs, stop.died)
        engines = {"requests": requests, "reads": reads, "ingest": writes}
        measure_parts(metrics, rooms, fleet, intake.ingest, engines)
        _listen(stack, settings, services, stop)
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process
        await stop.wait()
    return stop.status()


def _jobs(services: Services, intake: Intake, stop: Stop) -> list[Coroutine[Any, Any, None]]:
    """What runs on the loop for as long as the server does."""
    settings, metrics, delay_s = services.settings, services.metrics, services.delay_s
    jobs = [watch_consumer(intake.consumer, stop.died), measure_loop(metrics)]
    jobs += [tick_viewers(services.everybody, metrics)]
    jobs += [tell_freshness(services.rooms, metrics, delay_s)]
    jobs += [tell_fleet(services.fleet, metrics, delay_s)]
    if settings.jwt_jwks_url:
        keys = services.tokens.keys
        assert isinstance(keys, KeySet)
        fetcher = KeyFetcher(settings.jwt_jwks_url, settings.jwt_jwks_ca, keys, metrics)
        jobs += [fetcher.run()]
    return jobs


def _maintenance(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics, engine: sa.Engine, intake: Intake
) -> Maintenance:
    return Maintenance(
        engine, _threads(stack, "maintenance", 1), metrics, intake.ingest.offer,
        intake.delay_s, partial(oldest_unread_s, settings),
    )  # fmt: skip


def _start_link_check(stack: AsyncExitStack, services: Services, stop: Stop) -> None:
    """On connections of its own: an answer that waits behind requests comes too late."""
    engine = _engine(stack, services.settings, "links", LINK_THREADS, ANSWER_S)
    calls = _calls(stack, engine, "links", LINK_THREADS, services.metrics)
    jobs = [check_links(services.link_viewers, partial(calls.ask, still_open))]
    _start_jobs(stack, jobs, stop.died)


def _readiness(
    stack: AsyncExitStack, requests: sa.Engine, intake: Intake, tokens: Tokens
) -> Readiness:
    thread = _threads(stack, "readiness", 1)
    return Readiness(requests, thread, expected_revision(), intake, tokens.keys.status)


def _engine(
    stack: AsyncExitStack, settings: Settings, name: str, size: int, statement_s: float = 30
) -> sa.Engine:
    asks = name != "ingest"  # one statement at a time; a failed one is the client's to repeat
    engine = create_engine(
        settings, name=name, pool_size=size, statement_timeout_s=statement_s, ping=asks,
        autocommit=asks,
    )  # fmt: skip
    stack.callback(engine.dispose)
    return engine


def _calls(
    stack: AsyncExitStack, engine: sa.Engine, name: str, threads: int, metrics: Metrics
) -> StoreCalls:
    calls = StoreCalls(engine, name, threads, TIMEOUTS_S[name], metrics)
    stack.callback(calls.close)
    calls.connect()
    return calls


def _threads(stack: AsyncExitStack, name: str, size: int) -> Executor:
    executor = ThreadPoolExecutor(size, name)
    stack.callback(executor.shutdown, wait=False, cancel_futures=True)
    return executor


def _start_jobs(
    stack: AsyncExitStack,
    jobs: list[Coroutine[Any, Any, None]],
    died: Callable[[BaseException], None],
) -> None:
    """Background coroutines that live as long as the server; one that fails ends it."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background job failed", exc_info=error)
            died(error)

    for job in jobs:
        task = asyncio.create_task(job)
        task.add_done_callback(ended)
        stack.callback(task.cancel)


def _max_viewers(settings: Settings) -> int:
    """Out of descriptors the accept loop would spin: stay below the limit."""
    allowed = max(descriptors() - RESERVED_DESCRIPTORS, 1)
    return min(settings.max_viewers or allowed, allowed)


def _listen(stack: AsyncExitStack, settings: Settings, services: Services, stop: Stop) -> None:
    """Open the ports; at the end close them, then the viewers, then what is left."""
    servers = [http_server(main_routes(settings), services)]
    listen(servers[0], settings.service_address, settings.service_port, "listening")
    if settings.management_port is not None:
        servers.append(http_server(management_routes(), services))
        port = settings.management_port
        listen(servers[1], settings.management_address, port, "metrics and readiness")
    for each in servers:
        stack.push_async_callback(stop.within, REQUESTS_S, "requests", each.close_all_connections)
    drain = partial(close_all, services.everybody)
    stack.push_async_callback(stop.within, VIEWERS_S, "viewers", drain)
    for each in servers:
        stack.callback(each.stop)


def main() -> int:
    """The exit status: 0 stopped, 1 a worker or connection failed, 2 wrong settings."""
    parser = argparse.ArgumentParser(
        description="Live trip-tracking server: Kafka in, PostGIS, REST and WebSocket out.",
        epilog="settings, from the environment [default]; a secret NAME may come from the file"
        f" that NAME_FILE names:\n{Settings.explain()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="try settings and connections, exit")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    if arguments.check:
        return EXIT_FAILED if check_connections(settings) else 0
    stop = Stop()
    stop.listen()
    logs.configure(settings.log_level, settings.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    shown = " ".join(f"{name.upper()}={value}" for name, value in settings.masked().items())
    log.info("service-tracking %s on Python %s; %s", __version__, sys.version.split()[0], shown)
    try:
        return stop.leave(asyncio.run(serve(settings, stop)))
    except OSError as error:
        log.critical("%s", error.strerror)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
