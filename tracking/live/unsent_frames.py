"""Frames that wait for one viewer's socket, bounded. IOLoop thread."""

import time
from collections import deque
from typing import Final

# Live messages that wait for a slow viewer. A phone loses its radio for 10 to 15 s in a tunnel:
# that much at one update a second, some 4 KiB; what the kernel buffers comes on top.
MARK: Final = 16
# A viewer that was over the mark is not slow any more when so few wait.
RELIEVED: Final = MARK // 2
# A viewer that has been over the mark for so long is gone.
SLOW_LIMIT_S: Final = 5.0
# Status messages are never dropped, but nothing real needs so much: it is stuck at once.
LIMIT_BYTES: Final = 256 << 10


class UnsentFrames:
    """In order. At the mark a newer position replaces the oldest; everything else is kept."""

    __slots__ = ("_frames", "_newest", "_over_since", "size")

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, bool]] = deque()
        self._over_since = 0.0  # time.monotonic() since when it has been over the mark; 0: not
        self._newest: bytes | None = None  # of `put_newest`, the one that waits
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame: bytes, *, replaceable: bool) -> bool:
        """Whether an older position was replaced."""
        if self.size > LIMIT_BYTES:
            return False  # stuck: the connection is aborted at the next tick
        replaced = replaceable and len(self._frames) >= MARK and self._drop_oldest_position()
        self._frames.append((frame, replaceable))
        self.size += len(frame)
        if len(self._frames) >= MARK and not self._over_since:
            self._over_since = time.monotonic()
        return replaced

    def put_newest(self, frame: bytes) -> bool:
        """One that says all that the last one said: it takes its place, if that still waits."""
        for place, (waiting, _) in enumerate(self._frames):
            if waiting is self._newest:
                self._frames[place] = (frame, False)
                self.size += len(frame) - len(waiting)
                self._newest = frame
                return True
        self.append(frame, replaceable=False)
        self._newest = frame
        return False

    def _drop_oldest_position(self) -> bool:
        oldest = next((i for i, (_, old) in enumerate(self._frames) if old), None)
        if oldest is None:
            return False
        self.size -= len(self._frames[oldest][0])
        del self._frames[oldest]
        return True

    def popleft(self) -> bytes:
        frame, _ = self._frames.popleft()
        self.size -= len(frame)
        if len(self._frames) <= RELIEVED:
            self._over_since = 0.0
        return frame

    @property
    def is_over(self) -> bool:
        """More waits than a healthy viewer ever lets wait."""
        return bool(self._over_since)

    def is_stuck(self, now: float) -> bool:
        """Too much, or over the mark for too long."""
        if self.size > LIMIT_BYTES:
            return True
        return bool(self._over_since) and now - self._over_since > SLOW_LIMIT_S
