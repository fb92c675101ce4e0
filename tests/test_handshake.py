"""handlers.websocket.handshake: viewers of a whole server, from upgrade to end."""

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from tests.running import Platform, Server, Trip, stamp, wait_until
from tests.served import next_message, owner, stored_trip, track, wait_seq


@pytest.mark.gen_test
async def test_an_update_moves_the_marker(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    socket = await server.watch(trip.booking_id, owner(server, trip))
    first = await next_message(socket)
    assert first["seq"] == 1
    platform.update(trip, 5, speed_kmh=-1, heading_degrees=-1, timestamp=stamp(trip.at(5.25)))
    moved = await next_message(socket)
    expected = {
        "booking_id": str(trip.booking_id),
        "runner_id": str(trip.runner_id),
        "latitude": -6.2,
        "longitude": 106.8005,
        "speed_kmh": 0.0,
        "heading_degrees": 0.0,
        "timestamp": trip.at(5.25).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seq": 2,
    }
    assert {name: moved[name] for name in expected} == expected
    assert datetime.fromisoformat(moved["recorded_at"]) == trip.at(5.25)
    socket.close()


@pytest.mark.gen_test
async def test_a_late_point_does_not_move_the_marker(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform, 10)
    socket = await server.watch(trip.booking_id, owner(server, trip))
    assert (await next_message(socket))["longitude"] == 106.8009
    platform.update(trip, 4.5)
    await asyncio.to_thread(wait_seq, server, trip, 11)
    platform.update(trip, 20)
    assert (await next_message(socket))["seq"] == 12
    route = (await asyncio.to_thread(track, server, trip))["waypoints"]
    longitudes = [waypoint["longitude"] for waypoint in route]
    assert longitudes == sorted(longitudes)
    assert (route[5]["seq"], route[5]["longitude"]) == (11, 106.80045)
    socket.close()


@pytest.mark.gen_test
async def test_the_stream_stays_open_and_silent_after_the_trip(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    socket = await server.watch(trip.booking_id, owner(server, trip))
    await next_message(socket)
    platform.deliver(trip, trip.at(30))
    await asyncio.to_thread(
        wait_until, lambda: track(server, trip)["status"] == "completed", "completed"
    )
    late = await server.watch(trip.booking_id, owner(server, trip))
    assert (await next_message(late))["seq"] == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(socket.read_message(), 0.5)
    rooms = server.metric("tracking_rooms")
    assert rooms >= 1
    socket.close()
    late.close()


@pytest.mark.gen_test
async def test_an_owner_may_wait_for_the_acceptance(server: Server, platform: Platform) -> None:
    trip = Trip()
    position = {"pickup_lat": 1, "pickup_lng": 2, "dropoff_lat": 3, "dropoff_lng": 4}
    identity = {k: v for k, v in trip.identity().items() if k != "runner_id"}
    platform.send("booking.requested", **identity, **position, occurred_at=stamp(trip.start))

    async def connected() -> WebSocketClientConnection | None:
        try:
            return await server.watch(trip.booking_id, owner(server, trip))
        except HTTPClientError:
            return None

    while (socket := await connected()) is None:
        await asyncio.to_thread(server.get, "/health")  # let the server go on
    platform.accept(trip)
    platform.update(trip, 1)
    assert (await next_message(socket))["seq"] == 1
    socket.close()


@pytest.mark.gen_test
async def test_a_replaced_runner_sees_no_more(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    old = await server.watch(trip.booking_id, server.token(trip.runner_id, "runner"))
    await next_message(old)
    new_runner = uuid4()
    platform.accept(trip, trip.at(100), runner_id=str(new_runner))
    assert await asyncio.wait_for(old.read_message(), 50) is None
    assert old.close_code == 4503
    old.close()
    await asyncio.to_thread(server.wait_measured)
    with pytest.raises(HTTPClientError, match="404"):
        await server.watch(trip.booking_id, server.token(trip.runner_id, "runner"))
    new = await server.watch(trip.booking_id, server.token(new_runner, "runner"))
    await next_message(new)
    new.close()


@pytest.mark.gen_test
async def test_the_stream_ends_with_its_token(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    token = server.token(trip.owner_id, "owner", lifetime=timedelta(seconds=2))
    socket = await server.watch(trip.booking_id, token)
    await next_message(socket)
    assert await asyncio.wait_for(socket.read_message(), 50) is None
    assert (socket.close_code, socket.close_reason) == (4401, "token expired")
    socket.close()


@pytest.mark.gen_test
async def test_a_token_is_taken_from_all_three_places(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    token = owner(server, trip)
    by_query = await server.watch(trip.booking_id, token)
    by_header = await server.watch(trip.booking_id, None, Authorization=f"Bearer {token}")
    by_protocol = await server.watch(
        trip.booking_id, None, **{"Sec-WebSocket-Protocol": f"bearer.{token}"}
    )
    for socket in (by_query, by_header, by_protocol):
        assert (await next_message(socket))["seq"] == 1
        socket.close()
    other = server.token(trip.owner_id, "owner", jti="other")
    refused: list[tuple[int, dict[str, str]]] = [
        (401, {"Authorization": f"Bearer {other}"}),
        (400, {"Sec-WebSocket-Protocol": "tracking.v9"}),
        (403, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}),
    ]
    for status, headers in refused:
        with pytest.raises(HTTPClientError, match=str(status)):
            await server.watch(trip.booking_id, token, **headers)
    with pytest.raises(HTTPClientError, match="401"):
        await server.watch(trip.booking_id, None)


@pytest.mark.gen_test
async def test_a_room_is_left_on_every_way_a_connection_can_end(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    sockets = [await server.watch(trip.booking_id, owner(server, trip)) for _ in range(3)]
    for socket in sockets:
        await next_message(socket)
    sockets[0].close(1000)
    sockets[1].protocol.stream.close()  # type: ignore[union-attr]  # without a word
    await sockets[2].protocol.stream.write(b"\xff" * 10)  # type: ignore[union-attr]

    def alone() -> bool:
        return server.metric("tracking_subscribers") == 0

    await asyncio.to_thread(wait_until, alone, "everybody gone")
    for socket in sockets:
        socket.close()
    assert server.metric("tracking_rooms") == 0
