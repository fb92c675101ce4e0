"""What the digest of a route costs when its trip is settled: CPU of the process that stores."""

import time
from hashlib import sha256
from statistics import median
from typing import Final

from bench.report import table
from tests.running import Trip
from tracking.domain.tracks import TrackView
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.maintenance.digest import route_sha256
from tracking.store.read.tracks import find_track

ROUNDS: Final = 5
# Of the canonical CSV, roughly.
BYTES_OF_A_WAYPOINT: Final = 130


def digest_table(environ: dict[str, str], trip: Trip) -> str:
    """Of a stored route; a few seconds a million waypoints."""
    engine = create_engine(DatabaseSettings.from_environment(environ), name="bench")
    track = find_track(engine, trip.booking_id)
    assert track is not None
    wall, cpu = [], []
    for _ in range(ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        assert route_sha256(engine, track)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    engine.dispose()
    rows = [["`route_sha256`: read, written as CSV, hashed", _s(wall), _s(cpu)], _floor(track)]
    return table(["at settling, medians", "s", "of them CPU, s"], rows)


def _floor(track: TrackView) -> list[str]:
    """Nothing but SHA-256 of as many bytes."""
    data, cpu = bytes(track.waypoint_count * BYTES_OF_A_WAYPOINT), []
    for _ in range(ROUNDS):
        used = time.process_time()
        sha256(data).digest()
        cpu.append(time.process_time() - used)
    return [f"SHA-256 of {len(data) / 1e6:.0f} MB alone", "", _s(cpu)]


def _s(values: list[float]) -> str:
    return f"{median(values):.2f}"
