"""Follows a booking in the terminal, over the plain stream, as the apps do.

`python -m dev.watch BOOKING [--token TOKEN]`
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from tornado.httpclient import HTTPClientError
from tornado.websocket import websocket_connect

from dev.tokens import access_token

# As the apps do: five tries, and from the beginning after the first message.
WAITS_S: Final = (2, 4, 8, 16, 32)

Show = Callable[[dict[str, Any]], None]


async def watch(url: str, show: Show, say: Callable[[str], None]) -> None:
    """Show every position until refused, or five tries in a row have failed."""
    tries = 0
    while tries <= len(WAITS_S):
        try:
            if await _follow(url, show):
                tries = 0
            say("the stream was closed")
        except HTTPClientError as error:
            if error.code < 500:
                say(f"refused: {error.code} {_detail(error)}")
                return
            say(f"the server says {error.code}")
        except OSError as error:
            say(f"no connection: {error.strerror or error}")
        if tries < len(WAITS_S):
            await asyncio.sleep(WAITS_S[tries])
        tries += 1


async def _follow(url: str, show: Show) -> bool:
    """Until the stream is closed; was there any message?"""
    socket = await websocket_connect(url)
    seen = False
    try:
        while isinstance(text := await socket.read_message(), str):
            show(json.loads(text))
            seen = True
    finally:
        socket.close()
    return seen


def _detail(error: HTTPClientError) -> str:
    body = error.response.body if error.response is not None else b""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return error.message


def line(position: dict[str, Any]) -> str:
    """One position: when it was recorded, whose, where, how fast, how old it is here."""
    received = datetime.fromisoformat(position["received_at"])
    age_ms = (datetime.now(UTC) - received).total_seconds() * 1000
    return (
        f"{position['timestamp'][11:19]}  {position['booking_id'][:8]}  #{position['seq']:<5}"
        f" {position['longitude']:11.6f} {position['latitude']:10.6f}"
        f" {position['speed_kmh']:5.1f} km/h  {age_ms:6.0f} ms after Kafka"
    )


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.watch", description=__doc__)
    parser.add_argument("booking", type=UUID)
    parser.add_argument("--token", help="an access token [an admin's, made with JWT_SECRET]")
    port = os.environ.get("SERVICE_PORT", "8005")
    parser.add_argument(
        "--url", default=f"ws://127.0.0.1:{port}", help="of the server [%(default)s]"
    )
    arguments = parser.parse_args()
    token = arguments.token
    if token is None and (secret := os.environ.get("JWT_SECRET")):
        token = access_token(secret, uuid4(), "admin")
    if token is None:
        print("no --token, and JWT_SECRET is not set; try `set -a; . .dev/env`", file=sys.stderr)
        return 2
    url = f"{arguments.url}/ws/tracking/{arguments.booking}?token={token}"
    try:
        asyncio.run(
            watch(
                url, lambda p: print(line(p), flush=True), lambda text: print(text, file=sys.stderr)
            )
        )
    except KeyboardInterrupt:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
