"""A route of 100,000 waypoints leaves in bounded memory, while the live path goes on."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.running import Platform, Server, Trip, wait_until
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.store.ingest.batch import store_batch

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
