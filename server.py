"""The live trip-tracking server: reads Settings, builds everything, runs until a signal."""

import argparse
import asyncio
import gc
import logging
import resource
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from handlers import routes
from handlers.base import NotFoundHandler, log_request
from handlers.limits import Limits
from handlers.listener import Listener
from handlers.services import Services
from handlers.websocket.ticker import close_all, tick_viewers
from tracking import __version__, logs
from tracking.errors import SettingsError
from tracking.keys import KeySet
from tracking.live.broadcast import Broadcast
from tracking.live.freshness import tell_freshness
from tracking.live.rooms import Rooms
from tracking.live.sender import fastest_sender
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.engine import create_engine, expected_revision
from tracking.tokens import MAX_TOKEN_LENGTH, Tokens, tokens_of
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
MAX_BODY_BYTES: Final = 64 << 10
# A request may hold its token twice, in a header and in its query.
MAX_HEADER_BYTES: Final = 2 * MAX_TOKEN_LENGTH + (16 << 10)
# The apps send nothing; a refreshed token is the largest message that makes sense.
MAX_MESSAGE_BYTES: Final = 16 << 10
# A connection that does not finish its request's head in so long is not a client.
IDLE_TIMEOUT_S: Final = 30
BACKLOG: Final = 4096
# A busy Python thread gives way to the loop after so long (CPython's default is 5 ms).
SWITCH_INTERVAL_S: Final = 0.0005
# A collection of young objects every 50,000 allocations; old ones are few and rarely die.
GC_THRESHOLDS: Final = (50_000, 20, 100)

EXIT_SETTINGS: Final = 2


async def serve(settings: Settings, stop: Stop) -> int:
    """Build everything in order, run until told to stop, stop in reverse; the exit status."""
    async with AsyncExitStack() as stack:
        metrics, rooms, tokens = Metrics(), Rooms(), tokens_of(settings)
        requests = _engine(stack, settings, "requests", settings.db_pool_size)
        writes = _engine(stack, settings, "ingest", 4)
        request_threads = _threads(stack, "requests", settings.db_pool_size)

        broadcast = Broadcast(rooms, metrics, fastest_sender())
        intake = Intake(
            settings, metrics, writes, _threads(stack, "ingest", 1), broadcast, stop.died
        )
        intake.start()
        stack.push_async_callback(intake.stop, stop)

        maintenance = Maintenance(
            writes, _threads(stack, "maintenance", 1), metrics, intake.ingest.offer,
            intake.delay_s, partial(oldest_unread_s, settings),
        )  # fmt: skip
        jobs = [maintenance.run(), watch_consumer(intake.consumer, stop.died)]
        jobs += [measure_loop(metrics), tick_viewers(rooms, metrics)]
        jobs += [tell_freshness(rooms, metrics, intake.delay_s)]
        if settings.jwt_jwks_url:
            jobs += [_key_fetcher(settings, tokens, metrics).run()]
        _start_jobs(stack, jobs, stop.died)
        measure_parts(metrics, rooms, intake.ingest, {"requests": requests, "ingest": writes})

        readiness = Readiness(
            requests, request_threads, expected_revision(), intake, tokens.keys.status
        )
        services = Services(
            settings, requests, request_threads, tokens, rooms, metrics, readiness.check,
            Limits(settings, _max_viewers(settings)), intake.delay_s,
        )  # fmt: skip
        _listen(stack, settings, services, stop)
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process
        await stop.wait()
    return stop.status()


def _engine(stack: AsyncExitStack, settings: Settings, name: str, size: int) -> sa.Engine:
    asks = name == "requests"  # one statement at a time; a failed one is the client's to repeat
    engine = create_engine(settings, name=name, pool_size=size, ping=asks, autocommit=asks)
    stack.callback(engine.dispose)
    return engine


def _key_fetcher(settings: Settings, tokens: Tokens, metrics: Metrics) -> KeyFetcher:
    assert isinstance(tokens.keys, KeySet)
    return KeyFetcher(settings.jwt_jwks_url, settings.jwt_jwks_ca, tokens.keys, metrics)


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
    allowed = max(_descriptors() - RESERVED_DESCRIPTORS, 1)
    return min(settings.max_viewers or allowed, allowed)


def _descriptors() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _listen(stack: AsyncExitStack, settings: Settings, services: Services, stop: Stop) -> None:
    application = Application(
        routes(),
        services=services,
        default_handler_class=NotFoundHandler,
        log_function=log_request,
        compress_response=True,
        websocket_max_message_size=MAX_MESSAGE_BYTES,
    )
    server = HTTPServer(
        application,
        xheaders=bool(settings.trusted_proxies),
        trusted_downstream=list(settings.trusted_proxies),
        idle_connection_timeout=IDLE_TIMEOUT_S,
        body_timeout=IDLE_TIMEOUT_S,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        max_buffer_size=MAX_BODY_BYTES * 2,
    )
    bound = bind_sockets(settings.service_port, settings.service_address or None, backlog=BACKLOG)
    sockets = [Listener.of(each, _descriptors()) for each in bound]
    server.add_sockets(sockets)
    for each in sockets:
        host, port = each.getsockname()[:2]
        log.info("listening on %s port %d", host, port)
    stack.push_async_callback(stop.within, REQUESTS_S, "requests", server.close_all_connections)
    stack.push_async_callback(stop.within, VIEWERS_S, "viewers", partial(close_all, services.rooms))
    stack.callback(server.stop)


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
        log.critical("cannot listen on port %d: %s", settings.service_port, error.strerror)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
