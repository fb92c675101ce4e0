"""A jump to another island on every stream of a real server: nobody sees it."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection

from tests import test_fleet, test_protocol
from tests.running import Platform, Server, Trip, wait_until
from tests.served import API, owner, stored_trip, track, wait_seq
from tests.sharing import SharedClient, share, shared

ISLAND = -8.7  # Bali, a thousand kilometres from where the trip is


async def stored(
    server: Server, platform: Platform, trip: Trip, second: float, **changes: Any
) -> dict[str, Any]:
    seq = (await asyncio.to_thread(track, server, trip))["seq"] + 1
    platform.update(trip, second, **changes)
    return await asyncio.to_thread(wait_seq, server, trip, seq)


async def waiting(socket: WebSocketClientConnection) -> list[dict[str, Any]]:
    """All that has come, and comes within half a second."""
    found = []
    with suppress(TimeoutError):
        while True:
            text = await asyncio.wait_for(socket.read_message(), 0.5)
            assert isinstance(text, str)
            found.append(json.loads(text))
    return found


def kinds(client: Any) -> list[tuple[str, Any]]:
    """What is said of the route, in order: seqs of positions, late points, what is flagged."""
    said = []
    for message in client.told:
        if message["type"] == "location_update":
            said.append(("position", message["seq"]))
        elif message["type"] == "backfill":
            said.append(("points", [point["seq"] for point in message["points"]]))
        elif message["type"] == "flagged":
            said.append(("flagged", message["runs"]))
    return said


async def until(client: Any, last: tuple[str, Any]) -> list[tuple[str, Any]]:
    while not kinds(client) or kinds(client)[-1] != last:
        assert await client.next() is not None
    return kinds(client)


def counts(server: Server) -> dict[str, float]:
    return {
        verdict: server.metric("tracking_waypoints_flagged_total", verdict=verdict)
        for verdict in ("pending", "jump")
    }


def flagged_in(server: Server, trip: Trip, link: str) -> list[Any]:
    """What the route says, and what a share link shows."""
    route = server.get(f"{API}/{trip.booking_id}/route", owner(server, trip))[1]
    return [route["properties"]["flagged"], shared(server, link)[1]["data"]["flagged"]]


@pytest.mark.gen_test
async def test_no_stream_shows_a_jump_and_the_protocol_says_what_is_left_out(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform, 3)
    plain = await server.watch(trip.booking_id, owner(server, trip))
    client = await test_protocol.Client.join(server, trip.booking_id, owner(server, trip))
    link = share(server, trip, expires_in_s=600)["share_token"]
    guest = await SharedClient.look(server, link)
    fleet = await test_fleet.Client.joined(server)
    await until(client, ("points", [1, 2, 3]))
    await until(guest, ("points", [1, 2, 3]))

    before = await stored(server, platform, trip, 3)
    pending = await stored(server, platform, trip, 4, latitude=ISLAND)
    assert pending["total_distance_km"] == before["total_distance_km"]
    assert pending["reported_distance_km"] > 100
    row = await fleet.row_of(trip, seq=5)
    assert (row["latitude"], row["distance_m"] < 100) == (-6.2, True)
    assert (before["flagged"], pending["flagged"]) == ([], [[5, 5]])
    assert await asyncio.to_thread(flagged_in, server, trip, link) == [[[5, 5]], [[5, 5]]]
    late = await test_protocol.Client.join(server, trip.booking_id, owner(server, trip))
    welcome = await late.next_of("welcome")
    assert (welcome["flagged"], welcome["last_position"]["seq"]) == ([[5, 5]], 4)
    await stored(server, platform, trip, 5)

    said = [("points", [1, 2, 3]), ("position", 4), ("flagged", [[5, 5]]), ("points", [5]),
            ("position", 6)]  # fmt: skip
    assert await until(client, ("position", 6)) == said
    assert await until(guest, ("position", 6)) == said
    assert await until(late, ("position", 6)) == [("points", [1, 2, 3, 4, 5]), ("position", 6)]
    assert [message["seq"] for message in await waiting(plain)] == [3, 4, 6]
    assert (await fleet.row_of(trip, seq=6))["latitude"] == -6.2
    again = await test_protocol.Client.join(
        server, trip.booking_id, owner(server, trip), epoch=welcome["epoch"], since_seq=6
    )
    assert (await again.next_of("welcome"))["flagged"] == [[5, 5]]
    for each in (client, guest, late, again):
        each.socket.close()
    plain.close()
    fleet.cut()


@pytest.mark.gen_test
async def test_what_follows_may_show_that_the_first_position_was_wrong(
    server: Server, platform: Platform
) -> None:
    trip = Trip()
    platform.accept(trip)
    platform.update(trip, 0, latitude=ISLAND)
    await asyncio.to_thread(wait_seq, server, trip, 1)
    client = await test_protocol.Client.join(server, trip.booking_id, owner(server, trip))
    await until(client, ("points", [1]))
    for second in (1, 2):
        found = await stored(server, platform, trip, second)
    assert found["total_distance_km"] < 1
    said = [("points", [1]), ("flagged", [[2, 2]]), ("points", [2]), ("flagged", [[1, 1]]),
            ("position", 3)]  # fmt: skip
    assert await until(client, ("position", 3)) == said
    client.socket.close()


@pytest.mark.gen_test
async def test_what_is_flagged_is_counted_once_however_often_it_is_reported(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform, 3)
    counted = counts(server)
    await stored(server, platform, trip, 4, latitude=ISLAND)
    await asyncio.to_thread(wait_until, lambda: _is_counted(server, counted, 1, 0), "pending")
    for second in (5, 6, 7):
        platform.update(trip, 4, latitude=ISLAND)  # again
        await stored(server, platform, trip, second)
    await asyncio.to_thread(wait_until, lambda: _is_counted(server, counted, 1, 1), "a jump")


def _is_counted(server: Server, before: dict[str, float], pending: int, jumps: int) -> bool:
    return counts(server) == {
        "pending": before["pending"] + pending,
        "jump": before["jump"] + jumps,
    }
