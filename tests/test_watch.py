"""dev.watch: what the terminal viewer does with a server's answers, over real sockets."""

import asyncio
import json
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

import dev.watch
from dev.watch import line, watch

POSITION = {
    "booking_id": "0b0e7d5c-1c7c-4a4e-9a38-000000000001", "latitude": -6.2, "longitude": 106.8,
    "speed_kmh": 36.5, "timestamp": "2026-02-06T10:30:00Z", "seq": 12,
    "received_at": "2026-02-06T10:30:00.123456789Z",
}  # fmt: skip


class OneMessage(WebSocketHandler):
    """Sends a position to the first two viewers, and hangs up on everybody."""

    def initialize(self, visits: list[str]) -> None:
        self.visits = visits

    def open(self, *_: str, **__: str) -> None:
        self.visits.append("open")
        if len(self.visits) <= 2:
            self.write_message(json.dumps(POSITION))
        self.close()


class Refusal(RequestHandler):
    def get(self) -> None:
        self.set_status(401)
        self.write({"success": False, "error": "token expired"})


async def watched(handler: Any, visits: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The positions and the words that a viewer of this handler gets."""
    listening, port = bind_unused_port()
    arguments = {"visits": visits} if handler is OneMessage else {}
    server = HTTPServer(Application([("/", handler, arguments)]))
    server.add_socket(listening)
    positions: list[dict[str, Any]] = []
    words: list[str] = []
    try:
        await watch(f"ws://127.0.0.1:{port}/", positions.append, words.append)
    finally:
        server.stop()
        await server.close_all_connections()
    return positions, words


def test_a_message_gives_a_lost_viewer_new_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.watch, "WAITS_S", (0, 0))
    visits: list[str] = []
    positions, words = asyncio.run(watched(OneMessage, visits))
    assert positions == [POSITION, POSITION]
    # Two with a message, of which the second counts as the first try, and two more tries.
    assert len(visits) == len(words) == 4


def test_a_refused_viewer_is_told_why_and_stays_away() -> None:
    assert asyncio.run(watched(Refusal, [])) == ([], ["refused: 401 token expired"])


def test_nobody_there_is_said_at_every_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.watch, "WAITS_S", (0, 0))
    listening, port = bind_unused_port()
    listening.close()
    words: list[str] = []
    asyncio.run(watch(f"ws://127.0.0.1:{port}/", print, words.append))
    assert len(words) == 3
    assert all(word.startswith("no connection: ") for word in words)


def test_a_line_shows_longitude_before_latitude() -> None:
    shown = line(POSITION)
    assert shown.startswith("10:30:00  0b0e7d5c  #12")
    assert shown.index("106.800000") < shown.index("-6.200000")
