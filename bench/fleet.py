"""What the stream of all trips costs the loop, beside encoding the same arrays and nothing else."""

import asyncio
import gc
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from bench.report import table
from server import GC_THRESHOLDS
from tracking.domain.changes import BookingChanges, TrackMove
from tracking.domain.tracks import ActiveTrip
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.fleet_table import FleetTable
from tracking.wire import fleet_protocol

TRIPS: Final = (2_000, 5_000)
ROUNDS: Final = 30
VIEWERS: Final = 20


class Held:
    """CPU of a coroutine, and the longest time for which it held the loop."""

    def __init__(self) -> None:
        self.cpu_ms = self.longest_ms = 0.0

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Step by step: each time it gives way, somebody else could run."""
        started = time.thread_time()
        while True:
            step = time.perf_counter()
            try:
                work.send(None)
            except StopIteration:
                return
            finally:
                self.longest_ms = max(self.longest_ms, (time.perf_counter() - step) * 1000)
                self.cpu_ms = (time.thread_time() - started) * 1000


def run(_: dict[str, str]) -> str:
    """The table; some seconds."""
    gc.set_threshold(*GC_THRESHOLDS)
    head = ["trips, all moved", "publishing, ms", "one tick, ms", "longest hold, ms",
            "20 viewers, ms", "message, kB", "floor: msgspec of its rows, ms"]  # fmt: skip
    text = f"Medians of {ROUNDS} ticks, CPU of the loop's thread.\n\n"
    return text + table(head, [_row(count) for count in TRIPS])


def _row(count: int) -> list[str]:
    ids, fleet = [uuid4() for _ in range(count)], FleetTable()
    now = datetime.now(UTC)
    asyncio.run(fleet.begin(ActiveTrip(i, "BK-1", "to_pickup", now, 0, 0, None) for i in ids))
    gc.collect()
    gc.freeze()
    found = [_tick(fleet, ids, now + timedelta(seconds=n), n) for n in range(1, ROUNDS + 1)]
    gc.unfreeze()
    return [f"{count:,}", *(f"{median(values):.1f}" for values in zip(*found, strict=True))]


def _tick(fleet: FleetTable, ids: list[UUID], now: datetime, seq: int) -> tuple[float, ...]:
    moves = [
        BookingChanges(i, [StoredWaypoint(i, i, seq, i, 106.8 + seq * 1e-5, -6.2, 36.5, 90.0, now,
                                          now, False)], TrackMove("", 0, 0, seq * 1000))
        for i in ids
    ]  # fmt: skip
    since = fleet.told
    started = time.thread_time()
    for each in moves:
        fleet.apply(each)
    publishing_ms = (time.thread_time() - started) * 1000
    held = Held()
    held.run(fleet.look(now, 0.0))
    fleet.settle()
    started = time.thread_time()
    frames = [fleet.changes(since) or b"" for _ in range(VIEWERS)]
    frames_ms = (time.thread_time() - started) * 1000
    rows = msgspec.json.decode(frames[0][10:])["rows"]
    started = time.thread_time()
    fleet_protocol._encode(rows)
    floor_ms = (time.thread_time() - started) * 1000
    kilobytes = len(frames[0]) / 1000
    return publishing_ms, held.cpu_ms, held.longest_ms, frames_ms, kilobytes, floor_ms
