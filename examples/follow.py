"""Follows a booking over tracking.v1 and loses no waypoint. Python's standard library is enough.

TOKEN_FILE=token python examples/follow.py ws://127.0.0.1:8005 BOOKING

The file is read anew whenever a token is needed. docs/protocol.md explains the messages.
"""

import base64
import json
import os
import random
import re
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

CONNECT_S = 10.0
LONGEST_WAIT_S = 30.0
# Why what is seen is old. Later versions may have more reasons: an unknown one is shown as it is.
REASONS = {
    "no_points": "the runner's phone is silent",
    "no_usable_points": "the runner's phone is heard, but sends nothing that moves the marker",
    "pipeline_delayed": "the service is behind",
}
Message = dict[str, Any]


class Closed(Exception):
    """The connection ended; 1006 where no code was given."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}")
        self.code = code
        hint = re.search(r"retry in (\d+) s", reason)
        self.retry_s = float(hint[1]) if hint else 0.0


class WebSocket:
    """What a client needs of RFC 6455. Used by one thread."""

    def __init__(self, url: str, subprotocols: list[str]) -> None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        self._socket = socket.create_connection((parts.hostname or "", port), CONNECT_S)
        if parts.scheme == "wss":
            context = ssl.create_default_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=parts.hostname)
        self._file = self._socket.makefile("rb")
        try:
            self._upgrade(parts, subprotocols)
        except OSError:
            self.close()
            raise

    def _upgrade(self, parts: SplitResult, subprotocols: list[str]) -> None:
        lines = [
            f"GET {parts.path}?{parts.query} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}",
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        status = self._file.readline().split()
        while self._file.readline().strip():
            pass  # the server's headers: it has agreed, or it has not
        if status[1:2] != [b"101"]:
            raise ConnectionError(f"no upgrade: {b' '.join(status).decode()}")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def silence_limit(self, seconds: float) -> None:
        """`receive` raises TimeoutError when nothing at all comes for so long."""
        self._socket.settimeout(seconds)

    def send(self, text: str) -> None:
        self._send_frame(1, text.encode())

    def receive(self) -> str:
        """The next text message; pings are answered meanwhile."""
        text = b""
        while True:
            first, length = self._read(2)
            if length > 125:
                length = int.from_bytes(self._read(2 if length == 126 else 8))
            payload, opcode = self._read(length), first & 15
            if opcode == 8:
                raise Closed(int.from_bytes(payload[:2]) or 1005, payload[2:].decode())
            if opcode == 9:
                self._send_frame(10, payload)
            elif opcode < 3:
                text += payload
                if first & 128:
                    return text.decode()

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        head = struct.pack("!BB", 128 | opcode, 128 | size)
        if size > 125:
            head = struct.pack("!BBH", 128 | opcode, 128 | 126, size)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(head + mask + masked)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise Closed(1006)
        return data


class Follower:
    """What is known of one booking, kept over any number of connections."""

    def __init__(
        self, server: str, booking: str, token: Callable[[], str],
        show: Callable[[str, Message], None],
    ) -> None:  # fmt: skip
        self._url = f"{server}/ws/tracking/{booking}"
        self._token, self._show = token, show
        self.epoch: str | None = None
        self.seq = 0  # everything up to here has been shown
        self._ahead: set[int] = set()  # shown, but above a gap
        self._asked = False
        self._failures = 0

    def run(self) -> int:
        """Until the trip is over (1000) or there is no use in coming back (4500 and above)."""
        while True:
            retry_s = 0.0
            try:
                self._follow()
            except Closed as end:
                if end.code == 1000 or end.code >= 4500:
                    return end.code
                reason, retry_s = str(end), end.retry_s
            except (OSError, ValueError) as error:  # no connection, a dead link, no WebSocket
                reason = str(error)
            wait = max(retry_s, random.uniform(0, min(2**self._failures, LONGEST_WAIT_S)))
            self._failures += 1
            self._show("waiting", {"reason": reason, "seconds": round(wait, 1)})
            time.sleep(wait)

    def _follow(self) -> None:
        query = {} if self.epoch is None else {"epoch": self.epoch, "since_seq": self.seq}
        connection = WebSocket(
            f"{self._url}?{urlencode(query)}", ["tracking.v1", f"bearer.{self._token()}"]
        )
        self._asked = False
        try:
            while True:
                self._received(connection, json.loads(connection.receive()))
        finally:
            connection.close()

    def _received(self, connection: WebSocket, message: Message) -> None:
        kind = message["type"]
        if kind == "welcome":
            self._failures = 0
            connection.silence_limit(2 * message["heartbeat_s"])
            if message["recovered"] is not True:
                self.seq, self._ahead = 0, set()  # the whole route follows
            self.epoch = message["epoch"]
        elif kind == "location_update":
            self._add([message], message["seq"] - 1, message["seq"])
        elif kind == "backfill":
            self._add(message["points"], message["after_seq"], message["through_seq"])
        elif kind == "track_update":
            self.epoch = message["epoch"]
        elif kind == "token_expiring":
            connection.send(json.dumps({"type": "refresh", "token": self._token()}))
        self._show(kind, message)
        if self._ahead and not self._asked:
            self._asked = True
            connection.send(json.dumps({"type": "catch_up", "since_seq": self.seq}))

    def _add(self, points: list[Message], after: int, through: int) -> None:
        """Show what is new. All of the route above `after` and up to `through` is in `points`."""
        for point in points:
            if point["seq"] > self.seq and point["seq"] not in self._ahead:
                self._ahead.add(point["seq"])
                self._show("waypoint", point)
        if after <= self.seq:
            self.seq, self._asked = max(self.seq, through), False
        while self.seq + 1 in self._ahead:
            self.seq += 1
        self._ahead = {seq for seq in self._ahead if seq > self.seq}


def show(kind: str, message: Message) -> None:
    """One line each."""
    if kind == "waypoint":
        place = f"{message['longitude']:.6f} {message['latitude']:.6f}"
        print("waypoint", message["seq"], place, message["recorded_at"], flush=True)
    elif kind == "freshness":
        reason = message["reason"]
        print("freshness", message["state"], REASONS.get(reason, reason) or "", flush=True)
    elif kind == "flagged":  # all that are left out now: whoever draws takes them from the line
        print("flagged", *map(run_text, message["runs"]), flush=True)
    elif kind in ("arrival", "eta"):
        show_arrivals(message)
    elif kind not in ("location_update", "backfill", "heartbeat"):
        print(kind, json.dumps(message), flush=True)
        if kind == "welcome":
            show_arrivals(message)
            print("flagged", *map(run_text, message.get("flagged") or ()), flush=True)


def run_text(run: list[int]) -> str:
    """From seq to seq."""
    return f"{run[0]}-{run[1]}"


def show_arrivals(message: Message) -> None:
    """What is said of the ways' ends, and between when the runner will be at the next one."""
    for end, part in (message.get("arrivals") or {}).items():
        if part is not None:
            print("arrival", end, part["state"], part["arrived_at"] or "", flush=True)
    if "eta" in message:
        eta, reason = message["eta"], message["eta_reason"]
        said = [f"none: {reason}"] if eta is None else [eta["earliest"], eta["latest"]]
        print("eta", *said, flush=True)


if __name__ == "__main__":
    tokens = Path(os.environ["TOKEN_FILE"])
    follower = Follower(sys.argv[1], sys.argv[2], lambda: tokens.read_text().strip(), show)
    print("ended", follower.run(), flush=True)
