"""Viewers who come back when they are cut off, and what they saw."""

import asyncio
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from faults.server import SupervisedServer

COME_BACK_S: Final = 0.2


class Viewer:
    """Follows one booking on the plain stream."""

    def __init__(self, server: SupervisedServer, booking_id: str, owner_id: str) -> None:
        self.booking_id = booking_id
        self.token = server.token(UUID(owner_id), "owner")
        self.url = (
            f"ws://{server.address}:{server.port}/ws/tracking/{booking_id}?token={self.token}"
        )
        self.connections: list[list[dict[str, Any]]] = []  # the frames of each
        self.socket: WebSocketClientConnection | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(OSError, HTTPClientError, asyncio.TimeoutError):
                await self._watch()
            await asyncio.sleep(COME_BACK_S)

    async def _watch(self) -> None:
        request = HTTPRequest(self.url, connect_timeout=3, request_timeout=5)
        self.socket = await websocket_connect(request)
        frames: list[dict[str, Any]] = []
        self.connections.append(frames)
        try:
            while isinstance(text := await self.socket.read_message(), str):
                frames.append(json.loads(text))
        finally:
            self.socket.close()
            self.socket = None

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [frame for frames in self.connections for frame in frames]


class Viewers:
    """All of them, on a thread with a loop of its own."""

    def __init__(self, viewers: Sequence[Viewer]) -> None:
        self.viewers = list(viewers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="viewers", daemon=True)

    def start(self) -> "Viewers":
        self._thread.start()
        return self

    def connected(self) -> int:
        return sum(viewer.socket is not None for viewer in self.viewers)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        tasks = [self._loop.create_task(viewer.run()) for viewer in self.viewers]
        self._loop.run_forever()
        self._loop.run_until_complete(self._end(tasks))
        self._loop.close()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # the close frames go out


def saw_no_lie(viewer: Viewer, waypoints: Sequence[dict[str, Any]]) -> None:
    """Forward only, over all connections; each frame is what REST tells of that waypoint."""
    by_seq = {waypoint["seq"]: waypoint for waypoint in waypoints}
    assert sorted(by_seq) == list(range(1, len(waypoints) + 1)), "REST tells 1 to the head"
    last_seq, last_time = 0, ""
    for frames in viewer.connections:
        for number, frame in enumerate(frames):
            repeated = number == 0 and frame["seq"] == last_seq
            assert repeated or frame["seq"] > last_seq, f"{frame} after {last_seq}"
            assert frame["recorded_at"] >= last_time
            last_seq, last_time = frame["seq"], frame["recorded_at"]
            told = by_seq[last_seq]
            names = ("latitude", "longitude", "speed_kmh", "heading_degrees")
            assert [frame[n] for n in names] == [told[n] for n in names]
