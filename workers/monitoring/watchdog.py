"""How the process itself does: loop delay, gauges, and a consumer that is stuck. IOLoop thread."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from tracking.live.fleet import Fleet
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from workers.ingest import Ingest
from workers.monitoring.thread_cpu import ThreadCpu
from workers.relay.receiving import RelayReceiver

SAMPLE_S: Final = 0.1
LOOK_S: Final = 1.0
# Nothing in the process can end a poll() that does not return: the supervisor can.
POLL_DEAD_S: Final = 120.0


async def measure_loop(metrics: Metrics) -> None:
    """How late the loop runs what is due, ten times a second, until cancelled."""
    while True:
        due = time.perf_counter() + SAMPLE_S
        await asyncio.sleep(SAMPLE_S)
        metrics.loop_delay.observe(max(time.perf_counter() - due, 0.0))


def measure_process(metrics: Metrics, engines: Mapping[str, sa.Engine]) -> None:
    """Gauges that are read when Prometheus scrapes, which the loop does itself."""
    metrics.registry.register(ThreadCpu())
    for name, engine in engines.items():
        if isinstance(engine.pool, QueuePool):
            metrics.pool_in_use.labels(name).set_function(engine.pool.checkedout)


def measure_viewers(metrics: Metrics, rooms: Rooms, fleet: Fleet) -> None:
    """Of a process that serves clients."""
    metrics.rooms.set_function(lambda: len(rooms))
    metrics.subscribers.set_function(lambda: rooms.subscribers + len(fleet))
    metrics.fleet_viewers.set_function(lambda: len(fleet))
    metrics.fleet_trips.set_function(lambda: fleet.trips)


def measure_ingest(metrics: Metrics, ingest: Ingest) -> None:
    """Of a process that stores events."""
    metrics.oldest_unstored.set_function(lambda: ingest.oldest_wait(time.monotonic()))


def measure_relay(metrics: Metrics, receiver: RelayReceiver) -> None:
    """Of a process that hears what others store."""
    processes = receiver.processes
    metrics.relay_partitions.set_function(lambda: receiver.partitions)
    metrics.ingest_processes.set_function(lambda: len(processes))
    metrics.ingest_silence.set_function(processes.silence_s)


class Polling(Protocol):
    """A thread that polls Kafka."""

    last_poll: float  # time.monotonic()


async def watch_thread(thread: Polling, died: Callable[[BaseException], None]) -> None:
    """End the process when poll(), or whatever the thread does between two, does not return."""
    while True:
        await asyncio.sleep(LOOK_S)
        if time.monotonic() - thread.last_poll > POLL_DEAD_S:
            died(TimeoutError(f"Kafka's poll() has not returned for {POLL_DEAD_S:.0f} s"))
            return
