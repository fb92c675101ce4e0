"""The pages in Debian's Chromium, without a GPU: frames, script, first pictures, memory.

Everything shares the machine: browser, server, PostgreSQL, Kafka and the reports of 2,000 trips.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from bench.producing import make_topics, produce
from bench.report import table
from bench.talk import Talk, rss_kb
from dev.street_map import write
from tests.running import (
    Server,
    Trip,
    envelope,
    fresh_database,
    running_server,
    stamp,
    wait_until,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

    from bench.page_probes import Frames

TRIPS: Final = 2_000
# Each trip is heard of every four seconds.
UPDATES_A_SECOND: Final = 500
FRAMES_S: Final = 10.0
ROUNDS: Final = 3
DESKTOP: Final["ViewportSize"] = {"width": 1280, "height": 800}
PHONE: Final["ViewportSize"] = {"width": 390, "height": 844}
# The map's part of the operator's page.
MAP: Final = (940, 800)
TIMEOUT_MS: Final = 120_000


def run(environ: dict[str, str], minutes: float = 10.0) -> str:
    """The tables; some three minutes, and those in which the memory is watched."""
    from bench.page_probes import WATCH_FRAMES
    from tests.browser import chromium

    with _service(environ) as (server, trips), chromium() as browser:
        pages = _Pages(browser, server, trips, WATCH_FRAMES)
        parts = [
            f"Chromium {browser.version} without a GPU, {UPDATES_A_SECOND} updates/s of"
            f" {TRIPS:,} trips; load average {os.getloadavg()[0]:.1f} before."
        ]
        for measure in (_first_pictures, _cold_load, _frames, partial(_memory, minutes=minutes)):
            parts.append(measure(pages))
            print(parts[-1], file=sys.stderr, flush=True)  # of a long run nothing shall be lost
        parts.append(f"Load average {os.getloadavg()[0]:.1f} after.")
    return "\n\n".join(parts)


@contextmanager
def _service(environ: dict[str, str]) -> Iterator[tuple[Server, list[Trip]]]:
    """With trips that are heard of all the time."""
    prefix = f"pages-{uuid4().hex[:8]}"
    trips = [Trip(datetime.now(UTC)) for _ in range(TRIPS)]
    make_topics(environ["KAFKA_BROKERS"], prefix)
    with fresh_database(environ) as own, tempfile.TemporaryDirectory() as folder:
        streets = Path(folder) / "streets.json"
        write(streets)
        settings = {"KAFKA_TOPIC_PREFIX": prefix, "MAP_STREETS_FILE": str(streets)}
        job = {"brokers": environ["KAFKA_BROKERS"], "topic": f"{prefix}.runner.events",
               "trips": [trip.identity() for trip in trips], "rate": UPDATES_A_SECOND}  # fmt: skip
        with (
            running_server(own, Path(folder) / "log", **settings) as server,
            Talk([sys.executable, "-m", "bench.traffic"]) as traffic,
        ):
            produce(environ["KAFKA_BROKERS"], f"{prefix}.booking.events", _accepted(trips))
            traffic.ask(**job)
            stored = "tracking_waypoints_stored_total"
            wait_until(lambda: server.metric(stored) > 2 * TRIPS, "all have been heard of")
            yield server, trips


def _accepted(trips: list[Trip]) -> Iterator[bytes]:
    for number, trip in enumerate(trips):
        numbered = {**trip.identity(), "booking_number": f"BK-{number}"}
        data = {**numbered, "occurred_at": stamp(trip.start)}
        yield json.dumps(envelope("booking.accepted", data)).encode()


class _Pages:
    """Opens them, each in a context of its own: nothing is in a cache."""

    def __init__(self, browser: "Browser", server: Server, trips: list[Trip], hook: str) -> None:
        self.browser, self.server, self.trips, self._hook = browser, server, trips, hook
        self.admin = server.token(uuid4(), "admin")
        self.site = f"http://127.0.0.1:{server.port}"

    @contextmanager
    def open(
        self, address: str, viewport: "ViewportSize", *, script: bool = True
    ) -> Iterator["Page"]:
        context = self.browser.new_context(
            viewport=viewport,
            java_script_enabled=script,
            locale="en-GB",
        )
        context.set_default_timeout(TIMEOUT_MS)
        context.add_init_script(self._hook)
        page = context.new_page()
        page.goto(address)
        yield page
        context.close()

    @contextmanager
    def ops(self) -> Iterator["Page"]:
        with self.open(f"{self.site}/ops#token={self.admin}", DESKTOP) as page:
            yield page

    def first(self, page: "Page", name: str) -> float:
        """Milliseconds from the navigation to the first of these."""
        found = page.wait_for_function("(name) => globalThis.bench.first[name] ?? 0", arg=name)
        return float(found.json_value())


def _first_pictures(pages: _Pages) -> str:
    """In turn with a client that does nothing with what it gets."""
    found: list[tuple[float, ...]] = []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(ROUNDS):
            floor = thread.submit(asyncio.run, _snapshot(pages.server.port, pages.admin)).result()
            with pages.ops() as page:
                map_ = pages.first(page, "map")
                found.append((floor, pages.first(page, "list"), pages.first(page, "dots"), map_))
    head = ["from opening /ops to", "ms, median", "ms, all"]
    names = ["floor: the snapshot in a bare client", "the list of all trips", "their dots",
             "the whole base map"]  # fmt: skip
    return table(
        head, [_medians(*each) for each in zip(names, zip(*found, strict=True), strict=True)]
    )


async def _snapshot(port: int, token: str) -> float:
    """Milliseconds to the end of the snapshot."""
    began = time.perf_counter()
    request = HTTPRequest(f"ws://127.0.0.1:{port}/ws/fleet",
                          headers={"Authorization": f"Bearer {token}"})  # fmt: skip
    socket = await websocket_connect(request, subprotocols=["fleet.v1"])
    while True:
        message = msgspec.json.decode(await socket.read_message() or b"")
        if message["type"] == "snapshot" and not message["more"]:
            break
    socket.close()
    return (time.perf_counter() - began) * 1000


def _cold_load(pages: _Pages) -> str:
    """The owner's page on a phone's screen, beside its HTML and nothing else."""
    texts, floors = [], []
    for trip in pages.trips[:ROUNDS]:
        address = f"{pages.site}/track/{trip.booking_id}"
        with pages.open(address, PHONE, script=False) as page:
            floors.append(float(page.evaluate(
                "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
            )))  # fmt: skip
        token = pages.server.token(trip.owner_id, "owner")
        with pages.open(f"{address}#token={token}", PHONE) as page:
            texts.append(pages.first(page, "position"))
    return table(
        ["cold load of /track to", "ms, median", "ms, all"],
        [_medians("floor: its HTML and style, without script", floors),
         _medians("the first position as text", texts)],
    )  # fmt: skip


def _frames(pages: _Pages) -> str:
    """With the camera still; between the steps it comes to rest."""
    rows = []
    for name, is_drawn in (("floor: 2,000 sprites by drawImage", True), ("an empty canvas", False)):
        rows.append([name, *_floor(pages, is_drawn).row()])
    with pages.ops() as page:
        pages.first(page, "map")
        for name in ("/ops, all in view", "one step closer", "two steps closer"):
            page.wait_for_timeout(5000)
            rows.append([name, *_measured(page, pages).row()])
            page.click("#zoom-in")
    head = ["camera still", "frames/s, by the median", "mean", "between frames, ms (p50 p95)",
            "script a frame, ms (p50 p95)", "Chromium, cores"]  # fmt: skip
    return table(head, rows)


def _floor(pages: _Pages, is_drawn: bool) -> "Frames":
    from bench.page_probes import SPRITES

    with pages.open("about:blank", DESKTOP) as page:
        page.evaluate(SPRITES, [*MAP, TRIPS, is_drawn])
        return _measured(page, pages)


def _measured(page: "Page", pages: _Pages) -> "Frames":
    from bench.page_probes import Frames

    return Frames(page, pages.browser, FRAMES_S)


def _memory(pages: _Pages, minutes: float) -> str:
    """Of the operator's page while the trips move."""
    from bench.page_probes import heap_mb

    rows = []
    with pages.ops() as page:
        pages.first(page, "map")
        began = time.monotonic()
        steps = max(1, round(minutes))
        for step in range(steps + 1):
            page.wait_for_timeout(
                max(0.0, began + 60 * minutes * step / steps - time.monotonic()) * 1000
            )
            rows.append([f"{(time.monotonic() - began) / 60:.1f}", f"{heap_mb(page):.2f}",
                         f"{rss_kb(_renderer(pages.browser)) / 1000:.0f}"])  # fmt: skip
    return table(["/ops open for, minutes", "script's heap, MB", "its process, MB resident"], rows)


def _renderer(browser: "Browser") -> int:
    """The process of the page that took the most CPU."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    ranked = sorted((each["cpuTime"], each["id"]) for each in found if each["type"] == "renderer")
    return int(ranked[-1][1])


def _medians(name: str, values: "list[float] | tuple[float, ...]") -> list[str]:
    return [name, f"{median(values):,.0f}", " ".join(f"{value:.0f}" for value in values)]
