"""What tests ask a running server about their trips."""

import asyncio
import json
from typing import Any

from tornado.websocket import WebSocketClientConnection

from tests.running import Platform, Server, Trip, wait_until

API = "/api/v1/tracking"


def owner(server: Server, trip: Trip) -> str:
    return server.token(trip.owner_id, "owner")


def track(server: Server, trip: Trip) -> dict[str, Any]:
    status, body, _ = server.get(f"{API}/{trip.booking_id}", owner(server, trip))
    return dict(body["data"]) if status == 200 else {}


def wait_seq(server: Server, trip: Trip, seq: int) -> dict[str, Any]:
    found: dict[str, Any] = wait_until(
        lambda: (t := track(server, trip)) and t["seq"] >= seq and t, f"seq {seq}"
    )
    return found


def stored_trip(server: Server, platform: Platform, waypoints: int = 1) -> Trip:
    trip = Trip()
    platform.accept(trip)
    for second in range(waypoints):
        platform.update(trip, second)
    wait_until(lambda: track(server, trip), "accepted")
    wait_seq(server, trip, waypoints)
    return trip


async def next_message(socket: WebSocketClientConnection) -> dict[str, Any]:
    text = await asyncio.wait_for(socket.read_message(), 50)
    assert isinstance(text, str)
    message: dict[str, Any] = json.loads(text)
    return message
