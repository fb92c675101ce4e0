"""Viewers of `tracking.v1` that come back with their seq: thousands of them on one thread."""

import asyncio
import base64
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

import msgspec

# A client waits so long before it comes back, at random.
JITTER_S: Final = 0.5
# Without an answer to its handshake it tries again.
PATIENCE_S: Final = 10.0
# The server says something at least every `heartbeat_s`; then its host is taken for gone.
HEARTBEATS: Final = 1.5
OVER: Final = 1000  # the trip is; who comes again is told what was stored since
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

decode = msgspec.json.Decoder().decode


class Viewer(asyncio.Protocol):
    """One viewer over all its connections, and what it was told that was wrong."""

    def __init__(
        self,
        address: tuple[str, int],
        booking_id: UUID,
        token: str,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._patience_s = patience_s
        self.address, self.booking_id, self.token = address, booking_id, token
        self.points: dict[int, tuple[float, float]] = {}  # seq -> longitude, latitude
        self.last = 0  # everything up to here was told
        self.epoch: str | None = None
        self.problems: list[str] = []
        self.failed: list[str] = []  # handshakes
        self.codes: Counter[int] = Counter()  # with which it was closed; 1006: without a word
        self.welcomes = 0
        self.recovered = 0
        self.away_s: list[float] = []  # from a close until everything missed was there
        self.oldest_s = 0.0  # how old a live position was at most when it came
        self._cut_at: float | None = None
        self._wanted = 0
        self._is_over = False
        self._begin()

    def _begin(self) -> None:
        self._buffer = bytearray()
        self._is_open = self._is_welcome = False
        self._code, self._answer = 1006, "no answer"
        self._transport: asyncio.Transport | None = None
        self._heard_at = time.monotonic()
        self._silence_s = self._patience_s

    @property
    def is_right(self) -> bool:
        """Connected, or let go after the trip's end, and told all that its welcome promised."""
        return (self._is_welcome or bool(self.codes[OVER])) and self.last >= self._wanted

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._begin()
            self._ended = loop.create_future()
            try:
                async with asyncio.timeout(self._patience_s):
                    await loop.create_connection(lambda: self, *self.address)
                await self._until_ended()
            except OSError as error:
                self.failed.append(f"{time.strftime('%T')} {error!r}")
            except asyncio.CancelledError:
                self._is_over = True
                raise
            finally:
                if self._transport is not None:
                    self._transport.abort()
            await asyncio.sleep(random.uniform(0, JITTER_S))

    async def _until_ended(self) -> None:
        """Ended by the server, or by us when it is silent."""
        while not self._ended.done():
            left = self._heard_at + self._silence_s - time.monotonic()
            if left <= 0:
                assert self._transport is not None
                self._transport.abort()
            await asyncio.wait([self._ended], timeout=max(left, 1.0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        resume = f"?epoch={self.epoch}&since_seq={self.last}" if self.epoch else ""
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws/tracking/{self.booking_id}{resume} HTTP/1.1\r\nHost: {self.address[0]}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: tracking.v1\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n".encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_over:
            return
        if self._is_welcome:
            self.codes[self._code] += 1
            self._is_welcome = False
            self._cut_at = self._cut_at or time.monotonic()
        else:
            self.failed.append(f"{time.strftime('%T')} {self._answer} {self._code} {error!r}")
        if not self._ended.done():
            self._ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        self._buffer += data
        if not self._is_open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._answer = head.split(b"\r\n")[0].decode()
            if " 101 " not in self._answer:
                assert self._transport is not None
                self._transport.abort()
                return
            self._is_open, self._buffer = True, rest
        for opcode, payload in frames(self._buffer):
            self._take(opcode, payload)

    def _take(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        if opcode == TEXT:
            self._take_message(decode(payload))
        elif opcode == PING:
            self._transport.write(bytes([0x80 | PONG, 0x80 | len(payload)]) + bytes(4) + payload)
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if payload else 1005
            self._transport.write(bytes([0x80 | CLOSE, 0x82]) + bytes(4) + payload[:2])
            self._transport.close()

    def _take_message(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "welcome":
            self._take_welcome(message)
        elif kind == "track_update":
            self.epoch = message["epoch"]  # who joined before the acceptance knows none
        elif kind == "location_update":
            recorded_at = datetime.fromisoformat(message["recorded_at"]).timestamp()
            self.oldest_s = max(self.oldest_s, time.time() - recorded_at)
            if message["seq"] != self.last + 1:
                self.problems.append(f"{message['seq']} after {self.last}")
            self._take_point(message)
        elif kind == "backfill":
            if message["after_seq"] != self.last:
                self.problems.append(f"a backfill behind {message['after_seq']}, not {self.last}")
            for point in message["points"]:
                self._take_point(point)
            self.last = message["through_seq"]
        if self._cut_at is not None and self.is_right:
            self.away_s.append(time.monotonic() - self._cut_at)
            self._cut_at = None

    def _take_welcome(self, message: dict[str, Any]) -> None:
        self.welcomes += 1
        if self.epoch is not None:
            if message["recovered"] is True:
                self.recovered += 1
            else:
                self.problems.append(f"not recovered behind {self.last}")
        self._is_welcome = True
        self.epoch, self._wanted = message["epoch"], message["seq"]
        self._silence_s = message["heartbeat_s"] * HEARTBEATS

    def _take_point(self, point: dict[str, Any]) -> None:
        """In a backfill, numbers of waypoints that left the route are left out."""
        seq = point["seq"]
        if seq <= self.last:
            self.problems.append(f"{seq} again, after {self.last}")
        self.points[seq] = point["longitude"], point["latitude"]
        self.last = max(self.last, seq)


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Whole frames of a server, which neither masks nor splits, taken off the front."""
    while len(buffer) >= 2:
        head, size = 2, buffer[1]
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:head], "big")
        if len(buffer) < head + size:
            return
        opcode, payload = buffer[0] & 0xF, bytes(buffer[head : head + size])
        del buffer[: head + size]
        yield opcode, payload


class Crowd:
    """Viewers on a thread with a loop of its own, within a `with` block."""

    def __init__(self, viewers: Sequence[Viewer]) -> None:
        self.viewers = viewers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        tasks = [self._loop.create_task(viewer.run()) for viewer in self.viewers]
        self._loop.run_forever()
        self._loop.run_until_complete(_cancelled(tasks))
        self._loop.close()

    def are_right(self) -> bool:
        """Everybody is connected, and knows what was there when it connected."""
        return all(viewer.is_right for viewer in self.viewers)

    def have(self, heads: dict[UUID, int]) -> bool:
        """Everybody is connected, and was told all up to these seqs."""
        return all(v.is_right and v.last >= heads[v.booking_id] for v in self.viewers)

    def problems(self) -> list[str]:
        return [problem for viewer in self.viewers for problem in viewer.problems]

    def failed(self) -> list[str]:
        return [failure for viewer in self.viewers for failure in viewer.failed]

    def codes(self) -> Counter[int]:
        """How often whatever connection was closed with which code."""
        return sum((viewer.codes for viewer in self.viewers), Counter())

    def away_s(self) -> list[float]:
        """Sorted."""
        return sorted(seconds for viewer in self.viewers for seconds in viewer.away_s)

    def oldest_s(self) -> float:
        return max(viewer.oldest_s for viewer in self.viewers)


async def _cancelled(tasks: Collection["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
