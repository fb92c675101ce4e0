"""Long routes: in bounded memory, beside the live path, and whole though their rows change."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from roles.serving import READ_THREADS
from tests.proxy import Proxy
from tests.running import Platform, Server, Trip, running_server, wait_until
from tests.served import API, next_message, owner
from tests.test_store_ingest import accepted, update
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.domain.trips import GRACE
from tracking.store.ingest.batch import store_batch
from tracking.store.read.routes import PAGE

WAYPOINTS = 100_000
BATCH = 10_000
# A page is some 200 kB, times in waiting 0.8 MB, and the allocator keeps what it had once.
MAX_GROWTH_BYTES = 32 << 20


def store_large(engine: sa.Engine, trip: Trip) -> None:
    runner_id, booking_id = trip.runner_id, trip.booking_id
    store_batch(
        engine, [BookingEvent(booking_id, "accepted", trip.start, runner_id, trip.owner_id)]
    )
    for first in range(0, WAYPOINTS, BATCH):
        times = [trip.at(number / 2) for number in range(first, first + BATCH)]
        store_batch(
            engine,
            [
                LocationUpdate(
                    runner_id, booking_id, 106.8 + n * 1e-6, -6.2, 30.0, 90.0, at, at, at
                )
                for n, at in enumerate(times, first)
            ],
        )


@pytest.mark.gen_test
async def test_a_large_route_is_streamed_beside_the_live_path(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    large, live = Trip(datetime.now(UTC) - timedelta(days=1)), Trip()
    await asyncio.to_thread(store_large, engine, large)
    platform.accept(live)
    platform.update(live, 0)
    live_token = server.token(live.owner_id, "owner")
    path = f"/api/v1/tracking/{live.booking_id}"

    def begun() -> bool:
        status, body, _ = server.get(path, live_token)
        return status == 200 and body["data"]["seq"] == 1

    await asyncio.to_thread(wait_until, begun, "the live trip has begun")
    socket = await server.watch(live.booking_id, live_token)
    await asyncio.wait_for(socket.read_message(), 50)

    token = server.token(large.owner_id, "owner")
    route_path = f"/api/v1/tracking/{large.booking_id}/route"
    await asyncio.to_thread(server.get, route_path, token)  # what the first one allocates, stays
    before = server.metric("process_resident_memory_bytes")
    fetch = asyncio.create_task(asyncio.to_thread(server.get, route_path, token))
    number = 0
    while not fetch.done():
        number += 1
        await asyncio.to_thread(platform.update, live, number)
        message = await asyncio.wait_for(socket.read_message(), 50)
        assert isinstance(message, str)
        assert json.loads(message)["seq"] == number + 1
    status, route, headers = await fetch
    socket.close()
    assert (status, headers.get("Transfer-Encoding")) == (200, "chunked")
    assert len(route["geometry"]["coordinates"]) == WAYPOINTS
    assert len(route["properties"]["coordTimes"]) == WAYPOINTS
    assert number > 3, "the live path stood still"
    assert server.metric("process_resident_memory_bytes") - before < MAX_GROWTH_BYTES


@pytest.fixture
def proxy(database: dict[str, str]) -> Iterator[Proxy]:
    proxy = Proxy(database["DB_HOST"], int(database["DB_PORT"]))
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy: Proxy, database: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server whose statements can be held; requests have fewer connections than long reads."""
    own = {**database, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}
    with running_server(own, tmp_path / "log", DB_POOL_SIZE="2") as server:
        yield server


@pytest.mark.gen_test
async def test_while_all_long_reads_are_busy_viewers_join_and_readiness_answers(
    behind: Server, proxy: Proxy, engine: sa.Engine
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 1)])
    token, path = owner(behind, trip), f"{API}/{trip.booking_id}/route"
    proxy.hold(b"min(ST_X(position))")
    reads = [
        asyncio.create_task(asyncio.to_thread(behind.get, path, token)) for _ in range(READ_THREADS)
    ]
    await asyncio.to_thread(wait_until, lambda: proxy.held == READ_THREADS, "all are busy")
    socket = await behind.watch(trip.booking_id, token)
    assert (await next_message(socket))["seq"] == 1
    status, said, _ = await asyncio.to_thread(behind.get, "/readiness")
    assert (status, said["checks"]["database"]) == (200, "ok")
    assert proxy.held == READ_THREADS
    socket.close()
    proxy.heal()
    await asyncio.gather(*reads)
    assert (await asyncio.to_thread(behind.get, path, token))[0] == 200


def points(route: dict[str, Any]) -> list[list[float]]:
    """Of either answer, when all that is said of their number agrees."""
    if "geometry" in route:
        coordinates: list[list[float]] = route["geometry"]["coordinates"]
        assert len(route["properties"]["coordTimes"]) == len(coordinates)
        return coordinates
    return [[each["longitude"], each["latitude"]] for each in route["data"]["waypoints"]]


@pytest.mark.parametrize("path", ["", "/route"])
@pytest.mark.parametrize("left", [1_500, PAGE - 100])
@pytest.mark.gen_test
async def test_rows_that_change_while_a_route_leaves_are_in_all_of_it_or_in_nothing(
    behind: Server, proxy: Proxy, engine: sa.Engine, path: str, left: int
) -> None:
    """Between its first page, which is out with all that is in it, and the second."""
    trip = Trip()
    store_batch(engine, [accepted(trip), *[update(trip, second) for second in range(2_500)]])
    target = f"{API}/{trip.booking_id}{path}"
    proxy.hold(b"AND recorded_at >= '")
    fetch = asyncio.create_task(asyncio.to_thread(behind.get, target, owner(behind, trip)))
    await asyncio.to_thread(wait_until, lambda: proxy.held > 0, "the second page is asked for")
    # It turns out that another runner had the booking by then; what is newer than the head of this
    # answer is not in it either.
    store_batch(engine, [accepted(trip, left - 0.5, uuid4()), update(trip, left - 0.7)])
    proxy.heal()
    status, route, _ = await fetch
    assert status == 200
    remaining = max(left + round(GRACE.total_seconds()), PAGE)
    there = [update(trip, second) for second in range(remaining)]
    assert points(route) == [[round(u.longitude, 6), round(u.latitude, 6)] for u in there]
