"""What one viewer's socket takes: straight to it, or a bounded queue. IOLoop thread."""

import asyncio
import errno
import socket
import time
from typing import Final, Protocol

from tracking.live.unsent_frames import UnsentFrames
from tracking.metrics import Metrics

# A page of a backfill is 130 kB: so long on a link of 4 kB/s.
PAGE_LIMIT_S: Final = 30.0
# Between two calls of `tick`.
TICK_S: Final = 1.0
PING: Final = b"\x89\x00"  # RFC 6455, section 5.5.2: an empty ping
# The socket's buffer is full.
WOULD_BLOCK: Final = (-errno.EAGAIN, -errno.EWOULDBLOCK)


class Stream(Protocol):
    """Tornado's IOStream, as far as it is needed. `write` raises an OSError once it is closed."""

    socket: socket.socket

    def write(self, data: bytes, /) -> "asyncio.Future[None]":
        """Done when the socket has taken everything that was written."""

    def writing(self) -> bool:
        """Something waits for the socket."""

    def closed(self) -> bool:
        """By either side."""

    def close(self) -> None:
        """At once, whatever waits."""


class Owner(Protocol):
    """Whose messages a queue sends."""

    def leave_cohort(self) -> None:
        """Its socket is not free any more: each frame has to go through the queue."""


class SendQueue:
    """Frames leave in order. Positions give way to newer ones; everything else is kept."""

    # Thousands are gone through for one position: what is looked at lies close together.
    __slots__ = (
        "_drained",
        "_is_awaiting",
        "_is_shared",
        "_is_used",
        "_may_be_writing",
        "_page_since",
        "_socket",
        "_stream",
        "_unsent",
        "is_ended",
        "last_sent",
        "metrics",
        "owner",
    )

    def __init__(self, stream: Stream, metrics: Metrics) -> None:
        self.owner: Owner | None = None
        self.metrics = metrics
        self._stream = stream
        # Its number is -1 as soon as it is closed.
        self._socket: Final[socket.socket] = stream.socket
        self._unsent: UnsentFrames | None = None  # 700 bytes that most never need
        self._page_since = 0.0
        self._drained: asyncio.Future[None] | None = None
        self._is_awaiting = False  # the stream will call `_written`
        self.is_ended = False  # nothing may follow
        self._is_shared = False  # Tornado writes to the stream, too: it answers pings
        self._is_used = False  # since the last tick
        self._may_be_writing = True  # the answer to the handshake
        self.last_sent = time.monotonic()

    def accept(self, frame: bytes, *, replaceable: bool = True) -> int | None:
        """The descriptor to which it may go at once; None if it was queued or nothing may follow.

        Whoever gets a descriptor sends the frame before anything else happens.
        """
        descriptor = self._socket.fileno()
        if descriptor < 0 or self.is_ended:
            return None
        self._is_used = True
        if self._may_be_writing and (self._unsent or self._stream.writing()):
            self._enqueue(frame, replaceable)
            return None
        self._may_be_writing = self._is_shared
        return descriptor

    def complete(self, frame: bytes, count: int) -> None:
        """The socket took `count` bytes of it (negative: an errno); the stream sends the rest."""
        if count < 0 and count not in WOULD_BLOCK:
            self.abort()
        else:
            self._leave_to_stream(frame[max(count, 0) :])

    def free_socket(self) -> socket.socket | None:
        """Frames may go straight to it until the owner is told to leave its cohort."""
        return None if self._may_be_writing or self.is_ended else self._socket

    def share(self) -> None:
        """From now on Tornado writes to the stream, too, whenever it likes."""
        self._is_shared = True
        self._occupy()

    def _occupy(self) -> None:
        self._may_be_writing = True
        if self.owner is not None:
            self.owner.leave_cohort()

    def tick(self, now: float) -> None:
        """Once a second: a clock for each frame and viewer would be another object each."""
        if self._is_used:
            # When exactly is not known: a heartbeat comes rather early than late.
            self.last_sent, self._is_used = now - TICK_S, False

    def send(self, frame: bytes, *, replaceable: bool = False) -> None:
        """Now or later; never blocks and never raises."""
        if self.accept(frame, replaceable=replaceable) is not None:
            self._write(frame)

    def ping(self) -> None:
        """Ask whether the peer lives: no message, so it doesn't count as the last one sent."""
        is_used = self._is_used
        self.send(PING)
        self._is_used = is_used

    def send_newest(self, frame: bytes) -> None:
        """Likewise; it takes the place of the one before it that still waits: at most one does."""
        if not self.is_busy:
            self.send(frame)
            return
        if self._unsent is None:
            self._unsent = UnsentFrames()
        self._unsent.put_newest(frame)
        self._await_stream()

    async def send_page(self, frame: bytes) -> None:
        """Return when the socket has taken it: memory holds one page."""
        self.send(frame)
        await self.drain()

    async def drain(self) -> None:
        """Return when the socket has taken everything, or never will."""
        self._page_since = time.monotonic()
        while self.is_busy:
            self._drained = asyncio.get_running_loop().create_future()
            self._await_stream()
            await self._drained
        self._page_since = 0.0

    @property
    def is_busy(self) -> bool:
        """Something waits for the socket."""
        if self.is_ended or self._stream.closed():
            return False
        return bool(self._unsent) or self._stream.writing()

    @property
    def is_over(self) -> bool:
        """More waits than a healthy viewer ever lets wait."""
        return self._unsent is not None and self._unsent.is_over

    def is_stuck(self, now: float) -> bool:
        """It has taken too little for too long: a close frame would wait behind the rest."""
        if self._page_since and now - self._page_since > PAGE_LIMIT_S:
            return True
        return self._unsent is not None and self._unsent.is_stuck(now)

    def abort(self) -> None:
        """Drop what waits, and the connection."""
        self.discard()
        self._stream.close()

    def discard(self) -> None:
        """Nothing follows a close frame: neither what waits nor what somebody still sends."""
        self.is_ended = True
        self._occupy()
        self._unsent = None
        self._wake()

    def _write(self, frame: bytes) -> None:
        self.metrics.messages.inc()
        try:
            count = self._socket.send(frame)
        except OSError as error:
            count = -(error.errno or errno.EIO)
        if count < len(frame):
            self.complete(frame, count)

    def _leave_to_stream(self, rest: bytes) -> None:
        """The stream waits until the socket takes the rest, and tells us."""
        self._occupy()
        try:
            written = self._stream.write(rest)
        except OSError:
            self._wake()
            return
        self._is_awaiting = True
        written.add_done_callback(self._written)

    def _await_stream(self) -> None:
        """Be told, too, when what holds the socket is not ours: Tornado's answer to a ping."""
        if not self._is_awaiting:
            self._leave_to_stream(b"")

    def _enqueue(self, frame: bytes, replaceable: bool) -> None:
        if self._unsent is None:
            self._unsent = UnsentFrames()
        if self._unsent.append(frame, replaceable=replaceable):
            self.metrics.replaced.inc()
        self._await_stream()

    def _written(self, future: "asyncio.Future[None]") -> None:
        """The socket took what waited: send what was queued meanwhile."""
        self._is_awaiting = False
        if future.cancelled() or future.exception() is not None:
            self._wake()
            return
        while self._unsent and not self._stream.closed() and not self._stream.writing():
            self._write(self._unsent.popleft())
        if not self._unsent:
            self._unsent = None
        if self.is_busy:
            self._await_stream()
        else:
            self._wake()

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
