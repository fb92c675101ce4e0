"""A WebSocket client without manners: every byte of handshake and frames is the test's choice."""

import base64
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import UUID

from tests.running import Server, wait_until
from tests.viewing import parse_frames
from tracking.wire.protocol import SUBPROTOCOL

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
DEADLINE_S = 30.0


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """RFC 6455, section 5.2."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask = os.urandom(4) if masked else b""
    size = len(payload)
    if size < 126:
        head = bytes((first, size | (0x80 if masked else 0)))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 126 | (0x80 if masked else 0), size)
    else:
        head = struct.pack("!BBQ", first, 127 | (0x80 if masked else 0), size)
    if masked:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def handshake(
    path: str, headers: Mapping[str, str | None], version: str = "HTTP/1.1", method: str = "GET"
) -> bytes:
    """A good one, but for these headers; None leaves one out."""
    fields: dict[str, str | None] = {
        "Host": "tracking.example",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **headers,
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode()


# For SO_LINGER: what is unread or unsent is dropped, the peer is reset.
RESET = struct.pack("ii", 1, 0)


class RawSocket:
    """One TCP connection to the server."""

    def __init__(self, server: Server, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(("127.0.0.1", server.port))
        self._read = bytearray()
        self.frames: list[tuple[int, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    @classmethod
    def joined(
        cls, server: Server, booking_id: UUID, token: str, *, v1: bool = False,
        receive_buffer: int | None = None, query: str = "",
    ) -> "RawSocket":  # fmt: skip
        """Upgraded, with nothing read of what came behind the handshake.

        Once more where the server asks for it (429, 503): earlier tests may have left it busy.
        """
        headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL if v1 else None}
        request = handshake(f"/ws/tracking/{booking_id}?token={token}{query}", headers)

        def upgraded() -> "RawSocket | None":
            made = cls(server, receive_buffer=receive_buffer)
            status = made.shake(request)
            if status == 101:
                return made
            made.socket.close()  # or the collector warns of it in some other test
            assert status in (429, 503), made.head.decode()
            return None

        joined = wait_until(upgraded, "let in")
        assert joined is not None
        return joined

    def shake(self, request: bytes) -> int:
        """The status of the answer; 0 when there is none."""
        self.send(request)
        while b"\r\n\r\n" not in self._read:
            if not self._receive():
                break
        self.head, _, rest = bytes(self._read).partition(b"\r\n\r\n")
        self._read = bytearray(rest)
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    def body(self) -> bytes:
        """What the head announced."""
        announced = re.search(rb"(?i)content-length: (\d+)", self.head)
        size = int(announced[1]) if announced else 0
        while len(self._read) < size and self._receive():
            pass
        return bytes(self._read[:size])

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _receive(self) -> bool:
        try:
            got = self.socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._read += got
        return bool(got)

    def next(self, opcode: int) -> bytes | None:
        """The payload of the next frame of this kind; None at the end."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            self.frames += parse_frames(self._read)
            while self.frames:
                found, payload = self.frames.pop(0)
                if found == opcode:
                    return payload
            if not self._receive():
                return None
        raise AssertionError("neither frame nor end")

    def end(self) -> int | None:
        """The server's close code, when it has hung up; 1005 without code, None without frame."""
        payload = self.next(CLOSE)
        with suppress(OSError):
            self.send(frame(CLOSE, payload or b""))  # it waits for our answer, or has gone
        while self._receive():
            pass
        if payload is None:
            return None
        return int.from_bytes(payload[:2]) if payload else 1005
