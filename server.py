"""The live trip-tracking server: reads Settings, builds everything, runs until a signal."""

import argparse
import asyncio
import gc
import logging
import resource
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
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
from workers.ingest import Ingest
from workers.jwks import KeyFetcher
from workers.kafka.consumer import Consumer
from workers.kafka.dead_letters import DeadLetters
from workers.kafka.unread import oldest_unread_s
from workers.maintenance import Maintenance
from workers.monitoring.readiness import Readiness
from workers.monitoring.watchdog import measure_loop, measure_parts, watch_consumer
from workers.outgoing import Outgoing

log = logging.getLogger("tracking.server")

# Storing what is in flight, then one thread after the other: less than a supervisor's 20 s.
DRAIN_S: Final = 6.0
THREAD_S: Final = 5.0
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

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2


async def serve(settings: Settings) -> int:
    """Build everything in order, run until a signal, stop in reverse; the exit status."""
    stop, failures = asyncio.Event(), []

    def died(error: BaseException) -> None:
        """A dead worker behind a healthy port is the worst state. Any thread."""
        failures.append(error)
        loop.add_callback(stop.set)

    loop = IOLoop.current()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        metrics, rooms, tokens = Metrics(), Rooms(), tokens_of(settings)
        requests = _engine(stack, settings, "requests", settings.db_pool_size)
        writes = _engine(stack, settings, "ingest", 4)
        request_threads = _threads(stack, "requests", settings.db_pool_size)

        outgoing = Outgoing(settings, writes, metrics, died)
        outgoing.start()
        stack.push_async_callback(_stop_outgoing, outgoing)

        dead_letters = DeadLetters(settings, metrics, died)
        dead_letters.start()
        stack.push_async_callback(_stop_dead_letters, dead_letters)

        consumer = Consumer(settings, metrics, dead_letters, died)
        relay = Broadcast(rooms, metrics, fastest_sender())
        ingest = Ingest(
            writes, _threads(stack, "ingest", 1), relay, metrics, settings.batch_records, died
        )
        ingest.stored.append(consumer.stored)
        ingest.stored.append(lambda _: outgoing.wake())
        consumer.start(partial(loop.add_callback, ingest.offer))
        stack.push_async_callback(_stop_intake, consumer, ingest)

        def delay_s() -> float:
            return max(consumer.lag.delay_s(), ingest.oldest_wait(time.monotonic()))

        maintenance = Maintenance(
            writes,
            _threads(stack, "maintenance", 1),
            metrics,
            ingest.offer,
            delay_s,
            partial(oldest_unread_s, settings),
        )
        jobs = [maintenance.run(), measure_loop(metrics), watch_consumer(consumer, died)]
        jobs += [tick_viewers(rooms, metrics), tell_freshness(rooms, metrics, delay_s)]
        if settings.jwt_jwks_url:
            jobs += [_key_fetcher(settings, tokens, metrics).run()]
        _start_jobs(stack, jobs, died)
        measure_parts(metrics, rooms, ingest, {"requests": requests, "ingest": writes})

        readiness = Readiness(
            requests,
            request_threads,
            expected_revision(),
            consumer,
            ingest,
            dead_letters,
            outgoing,
            tokens.keys.status,
        )
        services = Services(
            settings, requests, request_threads, tokens, rooms, metrics, readiness.check,
            Limits(settings, _max_viewers(settings)), delay_s,
        )  # fmt: skip
        _listen(stack, settings, services)
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process
        await stop.wait()
        log.info("stopping")
    if failures:
        log.critical("stopped because a worker died: %r", failures[0])
        return EXIT_FAILED
    log.info("stopped")
    return 0


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


async def _in_thread(function: Callable[[float], bool], timeout_s: float, what: str) -> None:
    """Wait for a thread's end without waiting on the loop: the thread may need the loop."""
    if not await asyncio.to_thread(function, timeout_s):
        log.warning("the %s thread did not end within %.0f s", what, timeout_s)


async def _stop_outgoing(outgoing: Outgoing) -> None:
    outgoing.stop()
    await _in_thread(outgoing.wait, THREAD_S, "outgoing")


async def _stop_dead_letters(dead_letters: DeadLetters) -> None:
    dead_letters.stop()
    await _in_thread(dead_letters.wait, THREAD_S, "dead-letters")


async def _stop_intake(consumer: Consumer, ingest: Ingest) -> None:
    """Read no more, store what was read, then commit its offsets."""
    consumer.stop()
    await ingest.close(DRAIN_S)
    await _in_thread(consumer.wait, THREAD_S, "consumer")


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


def _listen(stack: AsyncExitStack, settings: Settings, services: Services) -> None:
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
    stack.push_async_callback(server.close_all_connections)
    stack.push_async_callback(close_all, services.rooms)
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
    logs.configure(settings.log_level, settings.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    shown = " ".join(f"{name.upper()}={value}" for name, value in settings.masked().items())
    log.info("service-tracking %s on Python %s; %s", __version__, sys.version.split()[0], shown)
    try:
        status = asyncio.run(serve(settings))
        # The loop is gone and its handlers with it: told again to stop, the stop goes on.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return status
    except OSError as error:
        log.critical("cannot listen on port %d: %s", settings.service_port, error.strerror)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
