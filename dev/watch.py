"""Follows a booking in the terminal over tracking.v1: status, speed, freshness and age.

`make watch BOOKING=…`, or `python -m dev.watch BOOKING [--token TOKEN]`
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dev.tokens import access_token
from tracking.wire.close_codes import TRIP_OVER
from tracking.wire.protocol import HEARTBEAT_S, SUBPROTOCOL

# As the apps do: five tries, and from the beginning after the first message.
WAITS_S: Final = (2, 4, 8, 16, 32)
STOP_FROM: Final = 4500  # close codes that say: don't come back
CLEAR_LINE: Final = "\r\x1b[K"

Message = dict[str, Any]
Show = Callable[[Message], None]
Say = Callable[[str], None]


class View:
    """What is known of one booking, kept over any number of connections."""

    def __init__(self, token: Callable[[], str], show: Show, say: Say) -> None:
        self._token, self._show, self._say = token, show, say
        self._epoch: str | None = None
        self._seq = 0
        self.status: tuple[str, str | None] = ("unknown", None)
        self.freshness = "unknown"
        self.position: Message | None = None
        self.received_at: datetime | None = None
        self.silence_s = 2.0 * HEARTBEAT_S

    def query(self) -> str:
        """Only what happens from now on, or what was missed."""
        options = {"history": "none"} if self._epoch is None else self._known()
        return urlencode({**options, "token": self._token()})

    def _known(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "since_seq": self._seq}

    def received(self, message: Message) -> Message | None:
        """One message; what there is to answer."""
        match message["type"]:
            case "welcome":
                self._begin(message)
            case "location_update":
                self._move(message)
            case "backfill":
                self._seq = max(self._seq, message["through_seq"])
                if message["points"]:
                    self._say(f"{len(message['points'])} waypoints were missed, or came late")
            case "track_update":
                self._epoch = message["epoch"]
                self._be(message["status"], message["phase"])
            case "freshness":
                self._age(message)
            case "token_expiring":
                return {"type": "refresh", "token": self._token()}
        return None

    def _begin(self, welcome: Message) -> None:
        self.silence_s = 2.0 * welcome["heartbeat_s"]
        self._be(welcome["status"], welcome["phase"])
        if welcome["freshness"] is not None:
            self._age(welcome["freshness"])
        if welcome["recovered"] is None:
            self._seq = welcome["seq"]  # no history was asked for
        elif not welcome["recovered"]:
            self._say("what was missed cannot be told apart: the whole route follows")
            self._seq, self.position = 0, None
        self._epoch = welcome["epoch"]
        last, known = welcome["last_position"], self.position
        if last is not None and (known is None or last["seq"] > known["seq"]):
            self._move(last)

    def _be(self, status: str, phase: str | None) -> None:
        if (status, phase) != self.status:
            self.status = status, phase
            self._say(f"{status}, {phase}" if phase else status)

    def _age(self, freshness: Message) -> None:
        state, reason = freshness["state"], freshness["reason"]
        said = f"{state}, {reason}" if reason else state
        if said != self.freshness:
            self.freshness = said
            self._say(said)

    def _move(self, position: Message) -> None:
        self._seq = max(self._seq, position["seq"])
        self.position = position
        self._show(position)

    def summary(self, now: datetime) -> str:
        """One line: status, speed, freshness, age."""
        parts = [" ".join(part for part in self.status if part)]
        if self.position is not None:
            age = (now - datetime.fromisoformat(self.position["recorded_at"])).total_seconds()
            parts += [f"#{self.position['seq']}", f"{self.position['speed_kmh']:.1f} km/h"]
            parts += [self.freshness, f"recorded {age:.0f} s ago"]
        return " · ".join(parts)


async def watch(url: str, view: View, say: Say) -> int:
    """Until the trip is over, refused, or five tries in a row have failed; the close code."""
    tries = 0
    code = 1006
    while tries <= len(WAITS_S):
        try:
            seen, code, reason = await _follow(url, view)
            if seen:
                tries = 0
            if code == TRIP_OVER.code or code >= STOP_FROM:
                say(f"{'the end' if code == TRIP_OVER.code else 'refused'}: {code} {reason}")
                return code
            say(f"the stream was closed: {code} {reason}")
        except HTTPClientError as error:
            say(f"the server says {error.code}")
        except OSError as error:  # a dead link's TimeoutError, too
            say(f"no connection: {error.strerror or str(error) or 'the link is silent'}")
        if tries < len(WAITS_S):
            await asyncio.sleep(WAITS_S[tries])
        tries += 1
    return code


async def _follow(url: str, view: View) -> tuple[bool, int, str]:
    """Until the stream is closed; was there any message, code and reason."""
    request = HTTPRequest(f"{url}?{view.query()}")
    socket = await websocket_connect(request, subprotocols=[SUBPROTOCOL])
    seen = False
    try:
        while (text := await _next(socket, view.silence_s)) is not None:
            message = json.loads(text)
            if (answer := view.received(message)) is not None:
                await socket.write_message(json.dumps(answer))
            seen = True
    finally:
        socket.close()
    return seen, socket.close_code or 1006, socket.close_reason or ""


async def _next(socket: WebSocketClientConnection, silence_s: float) -> str | bytes | None:
    # Not wait_for: up to Python 3.11 it forgets that it was cancelled when a message comes then.
    async with asyncio.timeout(silence_s):
        return await socket.read_message()


def line(position: Message) -> str:
    """One position: when it was recorded, whose, where, how fast, how old it is here."""
    received = datetime.fromisoformat(position["received_at"])
    age_ms = (datetime.now(UTC) - received).total_seconds() * 1000
    return (
        f"{position['timestamp'][11:19]}  {position['booking_id'][:8]}  #{position['seq']:<5}"
        f" {position['longitude']:11.6f} {position['latitude']:10.6f}"
        f" {position['speed_kmh']:5.1f} km/h  {age_ms:6.0f} ms after Kafka"
    )


async def _in_terminal(url: str, token: Callable[[], str]) -> int:
    """A line for each position and each piece of news; at the bottom what holds now."""
    footer = sys.stdout.isatty()

    def tell(text: str) -> None:
        print(f"{CLEAR_LINE if footer else ''}{text}", flush=True)

    view = View(token, lambda position: tell(line(position)), lambda text: tell(f"-- {text}"))
    below = asyncio.create_task(_footer(view)) if footer else None
    try:
        return await watch(url, view, lambda text: tell(f"-- {text}"))
    finally:
        if below is not None:
            below.cancel()
            with suppress(asyncio.CancelledError):
                await below


async def _footer(view: View) -> None:
    while True:
        print(f"{CLEAR_LINE}{view.summary(datetime.now(UTC))}", end="", flush=True)
        await asyncio.sleep(0.5)


def main() -> int:
    """The exit status: 0 if the trip is over, or Ctrl-C was pressed."""
    parser = argparse.ArgumentParser(prog="python -m dev.watch", description=__doc__)
    parser.add_argument("booking", type=UUID)
    parser.add_argument("--token", help="an access token [an admin's, made with JWT_SECRET]")
    port = os.environ.get("SERVICE_PORT", "8005")
    parser.add_argument(
        "--url", default=f"ws://127.0.0.1:{port}", help="of the server [%(default)s]"
    )
    arguments = parser.parse_args()
    secret, user = os.environ.get("JWT_SECRET"), uuid4()
    given: str | None = arguments.token
    if given is None and not secret:
        print("no --token, and JWT_SECRET is not set; try `set -a; . .dev/env`", file=sys.stderr)
        return 2

    def token() -> str:
        """A new one whenever one is needed, if they are ours to make."""
        return given or access_token(secret or "", user, "admin")

    url = f"{arguments.url}/ws/tracking/{arguments.booking}"
    try:
        return int(asyncio.run(_in_terminal(url, token)) != TRIP_OVER.code)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
