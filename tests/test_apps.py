"""The four apps that connect today: how strictly they read, and how they come back."""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.running import Platform, Server, running_server, wait_until
from tests.served import owner, stored_trip, wait_seq

# Two of them read times with a decoder that knows no fraction of a second.
WHOLE_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NUMBERS = ("latitude", "longitude", "speed_kmh", "heading_degrees")
# Seconds before the five attempts, and how much faster they pass here.
WAITS_S = (2, 4, 8, 16, 32)
SCALE = 0.02


def decoded(text: object) -> dict[str, Any]:
    """As the strictest of the four reads a frame; raises for anything else."""
    assert isinstance(text, str), "a text frame"
    found = json.loads(text)  # one object: a second one behind it is an error
    assert isinstance(found, dict)
    assert found.get("type", "location_update") == "location_update"
    for name in ("booking_id", "runner_id"):
        UUID(found[name])
    for name in NUMBERS:
        assert isinstance(found[name], int | float), name
        assert not isinstance(found[name], bool), name
    assert WHOLE_SECONDS.fullmatch(found["timestamp"])
    return found


class App:
    """Token in the query, no header; five attempts, counted anew at the first message."""

    def __init__(self, server: Server, booking_id: UUID, token: str) -> None:
        self.url = f"ws://127.0.0.1:{server.port}/ws/tracking/{booking_id}?token={token}"
        self.seen: list[dict[str, Any]] = []
        self.attempts = self.connected = 0
        self.most = 0
        self.given_up = False
        self.socket: WebSocketClientConnection | None = None

    async def run(self) -> None:
        while self.attempts < len(WAITS_S):
            with suppress(OSError, HTTPClientError):
                await self._listen()
            await asyncio.sleep(WAITS_S[self.attempts] * SCALE)
            self.attempts += 1
            self.most = max(self.most, self.attempts)
        self.given_up = True

    async def _listen(self) -> None:
        self.socket = await websocket_connect(self.url)
        self.connected += 1
        try:
            while (text := await self.socket.read_message()) is not None:
                self.seen.append(decoded(text))
                self.attempts = 0
        finally:
            self.socket.close()

    async def saw(self, seq: int) -> None:
        for _ in range(1500):
            if self.seen and self.seen[-1]["seq"] >= seq:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"never saw {seq}")


@pytest.fixture
def own(database: dict[str, str], tmp_path: Path) -> Iterator[tuple[Server, Platform]]:
    """A server that may be stopped."""
    # A static member, which is killed, takes its partitions back at once.
    with running_server(database, tmp_path / "log", KAFKA_INSTANCE_ID="one") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        yield server, platform
        platform.close()


@pytest.mark.gen_test
async def test_nothing_but_flat_positions_ever_reaches_an_app(
    own: tuple[Server, Platform],
) -> None:
    """Late points, unknown numbers, changes of phase, cancelled and accepted again, end, drain."""
    server, platform = own
    trip = await asyncio.to_thread(stored_trip, server, platform, 2)
    app = App(server, trip.booking_id, owner(server, trip))
    running = asyncio.create_task(app.run())
    await app.saw(2)
    for second in (100, 50, 51, 52, 101):
        platform.update(trip, second, speed_kmh=-1, heading_degrees=-1)
    await asyncio.to_thread(wait_seq, server, trip, 7)
    picked_up = trip.at(110).isoformat()
    platform.send("booking.pet_picked_up", **trip.identity(), occurred_at=picked_up)
    platform.accept(trip, trip.at(120), runner_id=str(uuid4()))
    platform.accept(trip, trip.at(121))
    platform.update(trip, 130)
    await asyncio.to_thread(wait_seq, server, trip, 8)
    await app.saw(8)
    platform.deliver(trip, trip.at(200))
    path = f"/api/v1/tracking/{trip.booking_id}"
    token = owner(server, trip)
    await asyncio.to_thread(
        wait_until, lambda: server.get(path, token)[1]["data"]["status"] == "completed", "over"
    )
    assert (app.connected, app.attempts) == (1, 0)  # still open: a close would bring it back
    assert await asyncio.to_thread(server.stop) == 0
    await asyncio.wait_for(running, 30)
    times = [datetime.fromisoformat(each["recorded_at"]) for each in app.seen]
    assert times == sorted(set(times))  # the marker never goes back, and stands nowhere twice
    assert {each["booking_id"] for each in app.seen} == {str(trip.booking_id)}


@pytest.mark.gen_test
async def test_an_app_comes_back_after_a_restart_and_counts_anew(
    own: tuple[Server, Platform],
) -> None:
    server, platform = own
    trip = await asyncio.to_thread(stored_trip, server, platform, 2)
    app = App(server, trip.booking_id, owner(server, trip))
    running = asyncio.create_task(app.run())
    await app.saw(2)
    server.environ["SERVICE_PORT"] = str(server.port)
    assert server.process is not None
    server.process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(server.process.wait)
    await asyncio.to_thread(server.start)
    app.attempts = 0  # here a start takes longer than all five scaled waits together
    if running.done():
        running = asyncio.create_task(app.run())
    await asyncio.to_thread(server.wait_ready)
    platform.update(trip, 50)
    await app.saw(3)
    assert app.attempts == 0
    assert app.connected >= 2
    running.cancel()
    assert app.socket is not None
    app.socket.close()


@pytest.mark.gen_test
async def test_an_app_that_is_refused_gives_up_after_five_attempts(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform, 1)
    stranger = App(server, trip.booking_id, server.token(uuid4(), "owner"))
    await asyncio.wait_for(stranger.run(), 30)
    assert (stranger.given_up, stranger.most, stranger.seen) == (True, 5, [])


@pytest.mark.gen_test
async def test_a_token_that_ends_stops_an_app_within_five_attempts(
    server: Server, platform: Platform
) -> None:
    """No message before the refusal, or it would come back for ever."""
    trip = await asyncio.to_thread(stored_trip, server, platform, 1)
    token = server.token(trip.owner_id, "owner", lifetime=timedelta(seconds=1))
    app = App(server, trip.booking_id, token)
    await asyncio.wait_for(app.run(), 50)
    assert app.given_up
    assert len(app.seen) == app.connected
