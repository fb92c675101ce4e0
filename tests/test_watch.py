"""dev.watch: what the terminal viewer does with a server's answers, over real sockets."""

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

import dev.watch
from dev.watch import View, line, watch
from tests.programs import Program
from tests.running import Platform, Server, Trip, wait_until
from tests.test_protocol import stored

POSITION = {
    "type": "location_update", "booking_id": "0b0e7d5c-1c7c-4a4e-9a38-000000000001",
    "latitude": -6.2, "longitude": 106.8, "speed_kmh": 36.5, "seq": 12,
    "timestamp": "2026-02-06T10:30:00Z", "recorded_at": "2026-02-06T10:30:00Z",
    "received_at": "2026-02-06T10:30:00.123456789Z",
}  # fmt: skip
NEWER = {**POSITION, "seq": 13}
FRESH = {"state": "live", "reason": None}
WELCOME = {
    "type": "welcome", "epoch": "e1", "seq": 12, "status": "active", "phase": "to_pickup",
    "freshness": FRESH, "last_position": POSITION, "recovered": None, "heartbeat_s": 15,
}  # fmt: skip
RESUMED = {**WELCOME, "recovered": True, "seq": 13, "last_position": NEWER}
STALE = {"type": "freshness", "state": "stale", "reason": "no_points"}
UNUSABLE = {**STALE, "reason": "no_usable_points"}
EXPIRING = {"type": "token_expiring"}


class Scripted(WebSocketHandler):
    """Each connection gets the next list of messages, and the close code at its end."""

    def initialize(self, script: list[list[Any]], heard: list[str]) -> None:
        self.script, self.heard = script, heard

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0] if subprotocols else None

    def open(self, *_: str, **__: str) -> None:
        self.heard.append(self.request.query)
        self._rest = self.script.pop(0) if self.script else [1001]
        self._go_on()

    def on_message(self, message: str | bytes) -> None:
        self.heard.append(str(message))
        self._go_on()

    def _go_on(self) -> None:
        while self._rest:
            each = self._rest.pop(0)
            if isinstance(each, int):
                self.close(each, "because")
            else:
                self.write_message(json.dumps(each))
                if each is EXPIRING:
                    return  # an answer comes


class Refusal(RequestHandler):
    def get(self) -> None:
        self.set_status(503)


class Watched:
    """What a viewer showed and said, and what the server heard."""

    def __init__(self) -> None:
        self.positions: list[dict[str, Any]] = []
        self.words: list[str] = []
        self.heard: list[str] = []
        self.view = View(lambda: "t", self.positions.append, self.words.append)

    async def run(self, handler: Any, script: list[list[Any]]) -> int:
        listening, port = bind_unused_port()
        given = {"script": script, "heard": self.heard} if handler is Scripted else {}
        server = HTTPServer(Application([("/", handler, given)]))
        server.add_socket(listening)
        try:
            return await watch(f"ws://127.0.0.1:{port}/", self.view, self.words.append)
        finally:
            server.stop()
            await server.close_all_connections()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev.watch, "WAITS_S", (0, 0))


def test_a_lost_viewer_resumes_and_shows_each_position_once() -> None:
    seen = Watched()
    script = [[WELCOME, 1001], [RESUMED, STALE, UNUSABLE, 1000]]
    code = asyncio.run(seen.run(Scripted, script))
    assert (code, seen.positions) == (1000, [POSITION, NEWER])
    assert seen.heard == ["history=none&token=t", "epoch=e1&since_seq=12&token=t"]
    assert seen.words == [
        "active, to_pickup", "live", "the stream was closed: 1001 because",
        "stale, no_points", "stale, no_usable_points", "the end: 1000 because",
    ]  # fmt: skip


def test_a_message_gives_a_lost_viewer_new_tries() -> None:
    seen = Watched()
    assert asyncio.run(seen.run(Scripted, [[1001], [WELCOME, 1001]])) == 1001
    # One without a message, one with, which counts as the first try, and two more tries.
    assert len(seen.heard) == 4


def test_a_refused_viewer_is_told_why_and_stays_away() -> None:
    seen = Watched()
    assert asyncio.run(seen.run(Scripted, [[4503]])) == 4503
    assert (seen.words, len(seen.heard)) == (["refused: 4503 because"], 1)


def test_a_server_without_websockets_is_said_at_every_try() -> None:
    seen = Watched()
    asyncio.run(seen.run(Refusal, []))
    assert seen.words == ["the server says 503"] * 3


def test_a_silent_link_is_left() -> None:
    seen = Watched()
    asyncio.run(seen.run(Scripted, [[{**WELCOME, "heartbeat_s": 0.2}], [4500]]))
    assert seen.words[-2:] == ["no connection: the link is silent", "refused: 4500 because"]


def test_a_token_that_ends_is_renewed() -> None:
    seen = Watched()
    asyncio.run(seen.run(Scripted, [[WELCOME, EXPIRING, 1000]]))
    assert json.loads(seen.heard[-1]) == {"type": "refresh", "token": "t"}


def test_nobody_there_is_said_at_every_try() -> None:
    listening, port = bind_unused_port()
    listening.close()
    seen = Watched()
    asyncio.run(watch(f"ws://127.0.0.1:{port}/", seen.view, seen.words.append))
    assert len(seen.words) == 3
    assert all(word.startswith("no connection: ") for word in seen.words)


def test_a_line_shows_longitude_before_latitude() -> None:
    shown = line(POSITION)
    assert shown.startswith("10:30:00  0b0e7d5c  #12")
    assert shown.index("106.800000") < shown.index("-6.200000")


def test_the_summary_says_status_speed_freshness_and_age() -> None:
    seen = Watched()
    for message in (WELCOME, STALE):
        seen.view.received(message)
    now = datetime(2026, 2, 6, 10, 30, 42, tzinfo=UTC)
    expected = "active to_pickup · #12 · 36.5 km/h · stale, no_points · recorded 42 s ago"
    assert seen.view.summary(now) == expected


def test_a_booking_is_followed_from_the_command_line_to_its_end(
    server: Server, platform: Platform, tmp_path: Path
) -> None:
    trip: Trip = stored(server, platform, 2)
    log = tmp_path / "log"
    command = ["-m", "dev.watch", str(trip.booking_id)]
    environ = {**os.environ, "SERVICE_PORT": str(server.port), "JWT_SECRET": server.secret}
    with log.open("wb") as out:
        process = Program(command, environ, out.fileno(), out.fileno())
        wait_until(lambda: "#2 " in log.read_text(), "the last position")
        platform.update(trip, 10)
        wait_until(lambda: "#3 " in log.read_text(), "the next position")
        platform.deliver(trip, datetime.now(UTC))
        assert process.wait(30) == 0
    assert log.read_text().endswith("-- completed, done\n-- the end: 1000 trip over\n")
