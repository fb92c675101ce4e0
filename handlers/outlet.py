"""What one viewer's socket takes: straight to it, or a bounded queue. IOLoop thread."""

import asyncio
import errno
import socket
import time
from collections import deque
from typing import Final

from tornado.iostream import IOStream, StreamClosedError

from tracking.metrics import Metrics

# Live messages that wait for a slow viewer. A phone loses its radio for 10 to 15 s in a tunnel:
# that much at one update a second, some 4 KiB; what the kernel buffers comes on top.
MARK: Final = 16
# A viewer that has been over the mark for so long is gone.
SLOW_LIMIT_S: Final = 5.0
# A page of a backfill is 130 kB: so long on a link of 4 kB/s.
PAGE_LIMIT_S: Final = 30.0
# The socket's buffer is full.
WOULD_BLOCK: Final = (-errno.EAGAIN, -errno.EWOULDBLOCK)


class Outlet:
    """Frames leave in order. Positions give way to newer ones; everything else is kept."""

    # Thousands are gone through for one position: what is looked at lies close together.
    __slots__ = (
        "_drained",
        "_is_over",
        "_is_shared",
        "_is_used",
        "_may_be_writing",
        "_metrics",
        "_over_since",
        "_page_since",
        "_socket",
        "_stream",
        "_unsent",
        "last_sent",
    )

    def __init__(self, stream: IOStream, metrics: Metrics) -> None:
        self._stream = stream
        # Its number is -1 as soon as it is closed.
        self._socket: Final[socket.socket] = stream.socket
        self._metrics = metrics
        self._unsent: deque[tuple[bytes, bool]] | None = None  # a deque is 600 bytes
        self._is_over = False
        self._is_shared = False  # Tornado writes to the stream, too: it answers pings
        self._may_be_writing = True  # the answer to the handshake
        self._is_used = False
        self._over_since = 0.0  # since when it has been over the mark; 0: it is not
        self._page_since = 0.0
        self._drained: asyncio.Future[None] | None = None
        self.last_sent = time.monotonic()

    def take(self, frame: bytes, *, replaceable: bool = True) -> int | None:
        """The descriptor to which it may go at once; None if it was kept or nothing may follow."""
        descriptor = self._socket.fileno()
        if descriptor < 0 or self._is_over:
            return None
        if self._may_be_writing and (self._unsent or self._stream.writing()):
            self._keep(frame, replaceable)
            return None
        self._may_be_writing = self._is_shared
        self._is_used = True
        return descriptor

    def share(self) -> None:
        """Tornado writes to the stream, too, whenever it likes: it is asked each time."""
        self._is_shared = self._may_be_writing = True

    def tick(self, now: float) -> None:
        """Once a second: a clock for each frame and viewer would be another object each."""
        if self._is_used:
            self.last_sent, self._is_used = now, False

    def sent(self, frame: bytes, count: int) -> None:
        """So much of it was taken (negative: an errno); the stream sends the rest, and tells us."""
        if count < 0 and count not in WOULD_BLOCK:
            self.cut()
            return
        self._may_be_writing = True
        try:
            self._stream.write(frame[max(count, 0) :]).add_done_callback(self._written)
        except StreamClosedError:
            self._wake()

    def send(self, frame: bytes, *, replaceable: bool = False) -> None:
        """Now or later; never blocks and never raises."""
        if self.take(frame, replaceable=replaceable) is not None:
            self._write(frame)

    async def send_page(self, frame: bytes) -> None:
        """Return when the socket has taken it: memory holds one page."""
        self._page_since = time.monotonic()
        self.send(frame)
        while (self._unsent or self._stream.writing()) and not self._stream.closed():
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        self._page_since = 0.0

    def is_stuck(self, now: float) -> bool:
        """It has taken too little for too long: a close frame would wait behind the rest."""
        if self._page_since and now - self._page_since > PAGE_LIMIT_S:
            return True
        return bool(self._over_since) and now - self._over_since > SLOW_LIMIT_S

    def cut(self) -> None:
        """Drop what waits, and the connection."""
        self.discard()
        self._stream.close()

    def discard(self) -> None:
        """Nothing follows a close frame."""
        self._is_over = True
        self._unsent = None
        self._wake()

    def _write(self, frame: bytes) -> None:
        self._metrics.messages.inc()
        try:
            count = self._socket.send(frame)
        except OSError as error:
            count = -(error.errno or errno.EIO)
        if count < len(frame):
            self.sent(frame, count)

    def _keep(self, frame: bytes, replaceable: bool) -> None:
        """Over the mark a newer position takes the place of the oldest unsent one."""
        if self._unsent is None:
            self._unsent = deque()
        if replaceable and len(self._unsent) >= MARK:
            self._over_since = self._over_since or time.monotonic()
            oldest = next((i for i, (_, old) in enumerate(self._unsent) if old), None)
            if oldest is not None:
                del self._unsent[oldest]
                self._metrics.replaced.inc()
        self._unsent.append((frame, replaceable))

    def _written(self, future: "asyncio.Future[None]") -> None:
        """The socket took what waited: send what was kept meanwhile."""
        if future.cancelled() or future.exception() is not None:
            self._wake()
            return
        while self._unsent and not self._stream.closed() and not self._stream.writing():
            self._is_used = True
            self._write(self._unsent.popleft()[0])
        if not self._unsent and not self._stream.writing():
            self._unsent = None
            self._over_since = 0.0
            self._wake()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
