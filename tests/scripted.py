"""A server of tracking.v1 that plays a script, for what the real one cannot be brought to do."""

import asyncio
import json
import threading
import time
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketHandler


def point(seq: int, second: float | None = None) -> dict[str, Any]:
    """Recorded so many seconds after the hour; without that, as many as its number is."""
    at = f"2026-02-06T10:00:{seq if second is None else second:09.6f}Z"
    return {"seq": seq, "latitude": -6.2, "longitude": 106.8, "speed_kmh": 1.0,
            "heading_degrees": 0.0, "recorded_at": at}  # fmt: skip


def live(seq: int, second: float | None = None) -> dict[str, Any]:
    return {"type": "location_update", **point(seq, second)}


def backfill(after: int, *seqs: int, through: int, more: bool = False) -> dict[str, Any]:
    return {"type": "backfill", "points": [point(seq) for seq in seqs], "after_seq": after,
            "through_seq": through, "more": more}  # fmt: skip


def welcome(recovered: bool | None, epoch: str = "e1", **fields: Any) -> dict[str, Any]:
    return {"type": "welcome", "epoch": epoch, "recovered": recovered, "heartbeat_s": 1,
            "seq": 2, "status": "active", "last_position": None, **fields}  # fmt: skip


def freshness(state: str, reason: str | None) -> dict[str, Any]:
    return {"type": "freshness", "state": state, "reason": reason}


# What each connection in turn says, waits to hear, or is closed with.
Script = list[list[dict[str, Any] | str | int | tuple[int, str]]]


class Scripted(WebSocketHandler):
    """Plays one connection of a script."""

    script: Script
    said: list[dict[str, Any]]

    def initialize(self, play: "Play") -> None:
        self._play = play

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        self._play.tokens += [each.removeprefix("bearer.") for each in subprotocols[1:]]
        return subprotocols[0]

    def open(self, *_: str, **__: str) -> None:
        self._play.queries.append(self.request.query)
        self._play.times.append(time.monotonic())
        self._lines = iter(self._play.script.pop(0))
        self._go_on()

    def on_message(self, message: str | bytes) -> None:
        self._play.heard.append(json.loads(message))
        self._go_on()

    def _go_on(self) -> None:
        for line in self._lines:
            if isinstance(line, dict):
                self.write_message(json.dumps(line))
            elif isinstance(line, int):
                self.close(line)
            elif isinstance(line, tuple):
                self.close(*line)
            else:
                return  # a word: wait for the client's


class Play:
    """A scripted server on a thread of its own, and what clients told it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.tokens: list[str] = []
        self.times: list[float] = []
        self.port = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> "Play":
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listening, self.port = bind_unused_port()
        server = HTTPServer(Application([(r"/ws/.*", Scripted, {"play": self})]))
        server.add_socket(listening)
        self._started.set()
        await self._stop.wait()
        server.stop()
        await server.close_all_connections()
