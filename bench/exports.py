"""A million waypoints as a file, beside what psql takes for their line without times."""

import asyncio
import http.client
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final

from psycopg2.extensions import connection as Connection

from bench.floors import psql
from bench.report import quantiles, table
from bench.settling import digest_table
from bench.talk import rss_kb
from tests.running import (
    Platform,
    Server,
    Trip,
    connect,
    fresh_database,
    running_server,
    wait_until,
)
from tracking.store import partitions
from tracking.wire.exports import FORMATS

WAYPOINTS: Final = 1_000_000
ROUNDS: Final = 5
# Reports of one trip that is watched meanwhile, so many a second.
LIVE_RATE: Final = 20
LIVE_S: Final = 15
API: Final = "/api/v1/tracking"


def run(environ: dict[str, str]) -> str:
    """The tables; some three minutes."""
    with fresh_database(environ) as own, tempfile.TemporaryDirectory() as folder:
        with closing(connect(own)) as connection:
            connection.autocommit = True
            print(f"bench: exports, filling in {WAYPOINTS:,} waypoints", file=sys.stderr)
            large = _fill(connection)
        digest = digest_table(own, large)
        with running_server(own, Path(folder) / "log", REQUESTS_PER_SECOND="0") as server:
            fetch = Fetch(server, large)
            rows = _formats(own, fetch, large)
            live = _live(server, fetch)
    head = ["", "s", "of psql", "MB", "server's CPU, s", "server grew, MiB"]
    return (
        f"{WAYPOINTS:,} waypoints of one trip in two partitions, warm; medians of {ROUNDS} rounds"
        f" of everything in turn, over HTTP.\n\n{table(head, rows)}\n\n"
        f"{table(['a position on its way to a viewer', 'p50, ms', 'p99, ms'], live)}\n\n{digest}"
    )


def _fill(connection: Connection) -> Trip:
    """Half of them on each side of a month's end."""
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    trip = Trip(month - timedelta(seconds=WAYPOINTS // 2))
    at = "%(start)s::timestamptz + n * interval '1.000001 seconds'"
    with connection.cursor() as cursor:
        partitions.ensure(cursor, [trip.start, month + timedelta(days=1)])
        values = {
            "booking": trip.booking_id, "owner": trip.owner_id, "runner": trip.runner_id,
            "start": trip.start, "count": WAYPOINTS,
        }  # fmt: skip
        cursor.execute(
            f"""
            INSERT INTO bookings (booking_id, owner_id) VALUES (%(booking)s, %(owner)s);
            INSERT INTO assignments (booking_id, runner_id, started_at)
            VALUES (%(booking)s, %(runner)s, %(start)s);
            INSERT INTO tracks (id, booking_id, booking_number, owner_id, runner_id, status, phase,
                                started_at, epoch)
            VALUES (gen_random_uuid(), %(booking)s, 'BK-1', %(owner)s, %(runner)s, 'active',
                    'to_pickup', %(start)s, 'e');
            INSERT INTO waypoints (track_id, recorded_at, runner_id, reported_at, seq, received_at,
                                   position, speed_kmh, heading_degrees)
            SELECT t.id, {at}, t.runner_id, {at}, n, {at},
                   ST_SetSRID(ST_MakePoint(106.8 + 0.1 * sin(n / 9000.0) + random() * 1e-5,
                                           -6.2 + 0.1 * cos(n / 7000.0) + random() * 1e-5), 4326),
                   (random() * 60)::real, (random() * 359)::real
            FROM tracks t, generate_series(1, %(count)s) n;
            UPDATE tracks SET (head_seq, waypoint_count, last_recorded_at, last_runner_id,
                               last_reported_at, last_position) =
                (SELECT %(count)s, %(count)s, recorded_at, runner_id, reported_at, position
                 FROM waypoints WHERE seq = %(count)s);
            """,
            values,
        )
        cursor.execute("VACUUM ANALYZE waypoints")
    return trip


class Fetch:
    """One export, read as fast as it comes and thrown away."""

    def __init__(self, server: Server, trip: Trip) -> None:
        self._server, self._trip = server, trip
        self._token = server.token(trip.owner_id, "owner")

    @property
    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid

    def __call__(self, what: str) -> tuple[float, int]:
        """Seconds and bytes; raises when it breaks off."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=600)
        with closing(connection):
            path = f"{API}/{self._trip.booking_id}/{what}"
            started = time.perf_counter()
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            size = 0
            while piece := answer.read(1 << 18):
                size += len(piece)
            return time.perf_counter() - started, size

    def cpu_s(self) -> float:
        return self._server.metric("process_cpu_seconds_total")


LINE: Final = "SELECT ST_AsGeoJSON(ST_MakeLine(position ORDER BY recorded_at)) FROM waypoints"


def _psql_s(environ: Mapping[str, str], trip: Trip) -> float:
    of_track = f"track_id = (SELECT id FROM tracks WHERE booking_id = '{trip.booking_id}')"
    with tempfile.NamedTemporaryFile() as out:
        started = time.perf_counter()
        psql(environ, f"\\copy ({LINE} WHERE {of_track}) TO '{out.name}'")
        return time.perf_counter() - started


def _formats(environ: Mapping[str, str], fetch: Fetch, trip: Trip) -> list[list[str]]:
    names = [*(f"export.{ending}" for ending in FORMATS), "route", "export.geojson?simplify_m=10"]
    seconds: dict[str, list[float]] = {"": [], **{name: [] for name in names}}
    sizes, cpu, grown = dict[str, int](), dict[str, float](), dict[str, float]()
    fetch("export.csv")  # what the first one allocates stays; and everything is warm
    for number in range(ROUNDS):
        print(f"bench: exports, round {number + 1} of {ROUNDS}", file=sys.stderr)
        seconds[""].append(_psql_s(environ, trip))
        for name in names:
            before, rss = fetch.cpu_s(), rss_kb(fetch.pid)
            with Peak(fetch.pid) as peak:
                elapsed, sizes[name] = fetch(name)
            seconds[name].append(elapsed)
            cpu[name] = fetch.cpu_s() - before
            grown[name] = max(grown.get(name, 0.0), (peak.kb - rss) / 1024)
    bar = seconds.pop("")
    rows = [["psql, `ST_AsGeoJSON(ST_MakeLine())`", f"{median(bar):.2f}", "1", "", "", ""]]
    for name, each in seconds.items():
        ratio = median(ours / psqls for ours, psqls in zip(each, bar, strict=True))
        figures = [median(each), ratio, sizes[name] / 1e6, cpu[name], grown[name]]
        digits = (2, 2, 0, 2, 0)
        texts = [f"{value:.{n}f}" for value, n in zip(figures, digits, strict=True)]
        rows.append([f"`{name}`", *texts])
    return rows


class Peak:
    """The most memory that a process has meanwhile."""

    def __init__(self, pid: int) -> None:
        self._pid, self._done = pid, threading.Event()
        self.kb = rss_kb(pid)
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.kb = max(self.kb, rss_kb(self._pid))


def _live(server: Server, fetch: Fetch) -> list[list[str]]:
    """From producing to the viewer's socket, alone and while exports leave one after the other."""
    environ, trip = server.environ, Trip()
    platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
    token = server.token(trip.owner_id, "owner")
    platform.accept(trip)
    platform.update(trip, 0)
    path = f"{API}/{trip.booking_id}"
    wait_until(lambda: server.get(path, token)[0] == 200, "the live trip has begun")
    alone = asyncio.run(_delays(server, platform, trip, token, 1))
    done = threading.Event()

    def exports() -> None:
        while not done.is_set():
            for ending in FORMATS:
                fetch(f"export.{ending}")

    thread = threading.Thread(target=exports)
    thread.start()
    beside = asyncio.run(_delays(server, platform, trip, token, 1 + LIVE_RATE * LIVE_S))
    done.set()
    thread.join()
    platform.close()
    return [
        [name, *(f"{1000 * delay:.1f}" for delay in (quantiles(each)[0], quantiles(each)[2]))]
        for name, each in (("alone", alone), ("beside exports, one after the other", beside))
    ]


async def _delays(
    server: Server, platform: Platform, trip: Trip, token: str, first: int
) -> list[float]:
    socket = await server.watch(trip.booking_id, token)
    await socket.read_message()
    delays, start = [], time.perf_counter()
    for number in range(LIVE_RATE * LIVE_S):
        await asyncio.sleep(start + number / LIVE_RATE - time.perf_counter())
        sent = time.perf_counter()
        await asyncio.to_thread(platform.update, trip, first + number)
        await socket.read_message()
        delays.append(time.perf_counter() - sent)
    socket.close()
    return delays
