"""Thousands of viewers in one process: `python -m bench.viewers`, told by JSON lines.

Frames are counted by their first byte, which no JSON holds; only a sample is parsed.
"""

import json
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

STDIN: Final = 0
FIRST_BYTE: Final = b"\x81"
PING: Final = b"\x89"
PONG: Final = b"\x8a\x80\0\0\0\0"
# So many handshakes are under way at once.
WINDOW: Final = 100
# A viewer that stalls shall be felt at once, not when the kernel has taken megabytes for it.
STALLED_BUFFER: Final = 4096
STALLED_SEGMENT: Final = 536


class Viewers:
    """All sockets; those that stall are never read."""

    def __init__(self, port: int, every: int) -> None:
        self._port = port
        self._every = every  # every so many'th is parsed
        self._sockets: dict[int, socket.socket] = {}
        self._frames: dict[int, int] = {}
        self._parsed: dict[int, bytearray] = {}
        self._stalled: list[socket.socket] = []
        self._buffer = bytearray(1 << 18)
        self._epoll = select.epoll()
        self.closed = 0
        self.reset()

    def reset(self) -> None:
        self._frames = dict.fromkeys(self._frames, 0)
        self._ms: list[float] = []
        self._first = self._last = 0.0

    def connect(self, targets: Sequence[str], stalled: int) -> float:
        """One viewer for each target, the first ones of which stall; seconds."""
        started = time.perf_counter()
        for first in range(0, len(targets), WINDOW):
            part = [(self._open(target, first + n < stalled), first + n)
                    for n, target in enumerate(targets[first : first + WINDOW])]  # fmt: skip
            for sock, number in part:
                self._shake_hands(sock, number, number < stalled)
        return time.perf_counter() - started

    def _open(self, target: str, stalls: bool) -> socket.socket:
        sock = socket.socket()
        if stalls:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER)
            # The sender's buffer grows with the segment, which is 64 KiB on the loopback.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, STALLED_SEGMENT)
        sock.connect(("127.0.0.1", self._port))
        sock.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        return sock

    def _shake_hands(self, sock: socket.socket, number: int, stalls: bool) -> None:
        got = b""
        while b"\r\n\r\n" not in got:
            part = sock.recv(65536)
            assert part, f"refused: {got!r}"
            got += part
        head, _, rest = got.partition(b"\r\n\r\n")
        assert b" 101 " in head, head
        if stalls:
            self._stalled.append(sock)
            return
        sock.setblocking(False)
        descriptor = sock.fileno()
        self._sockets[descriptor] = sock
        self._frames[descriptor] = 0
        if number % self._every == 0:
            self._parsed[descriptor] = bytearray()
        self._count(descriptor, rest)
        self._epoll.register(descriptor, select.EPOLLIN)

    def watch_stdin(self) -> None:
        self._epoll.register(STDIN, select.EPOLLIN)

    def read(self, timeout_s: float = -1) -> bool:
        """What has come; True when there is something to do on standard input."""
        asked = False
        for descriptor, _ in self._epoll.poll(timeout_s):
            if descriptor == STDIN:
                asked = True
            else:
                self._read(descriptor)
        return asked

    def _read(self, descriptor: int) -> None:
        try:
            size = self._sockets[descriptor].recv_into(self._buffer)
        except ConnectionError:
            size = 0
        if not size:
            self._epoll.unregister(descriptor)
            self.closed += 1
            return
        if self._buffer.find(PING, 0, size) >= 0:
            self._sockets[descriptor].send(PONG)
        if descriptor in self._parsed:
            self._count(descriptor, bytes(self._buffer[:size]))
        else:
            self._frames[descriptor] += self._buffer.count(FIRST_BYTE, 0, size)
            self._seen()

    def _seen(self) -> None:
        self._last = time.perf_counter()
        self._first = self._first or self._last

    def _count(self, descriptor: int, data: bytes) -> None:
        if not data:
            return
        self._seen()
        self._frames[descriptor] += data.count(FIRST_BYTE)
        if descriptor in self._parsed:
            self._parsed[descriptor] += data
            now = time.time()
            for text in _texts(self._parsed[descriptor]):
                sent = datetime.fromisoformat(json.loads(text)["recorded_at"]).timestamp()
                self._ms.append((now - sent) * 1000)

    def wait_for_first(self) -> None:
        """Until everybody has had a frame."""
        while not all(self._frames.values()):
            self.read(1.0)

    def report(self) -> dict[str, Any]:
        counts = self._frames.values()
        return {
            "frames": sum(counts),
            "least": min(counts, default=0),
            "seconds": self._last - self._first,
            "ms": self._ms,
            "closed": self.closed,
        }


def _texts(data: bytearray) -> list[bytes]:
    """The payloads of whole text frames, taken off the front; none is larger than 65,535 bytes."""
    found = []
    while len(data) >= 2:
        head, length = (4, int.from_bytes(data[2:4])) if data[1] == 126 else (2, data[1])
        if len(data) < head + length:
            break
        if data.startswith(FIRST_BYTE):
            found.append(bytes(data[head : head + length]))
        del data[: head + length]
    return found


def main() -> None:
    """The first line says who connects; then `reset` and `report`."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = json.loads(sys.stdin.readline())
    viewers = Viewers(job["port"], job["every"])
    seconds = viewers.connect(job["targets"], job["stalled"])
    if job["first"]:
        viewers.wait_for_first()
    print(json.dumps({"seconds": seconds}), flush=True)
    viewers.watch_stdin()
    while True:
        if not viewers.read():
            continue
        asked = os.read(STDIN, 65536)
        if not asked:
            return
        if b"reset" in asked:
            viewers.reset()
        print(json.dumps(viewers.report()), flush=True)


if __name__ == "__main__":
    main()
