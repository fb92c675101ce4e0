"""One frame to many sockets in one system call: Linux's io_uring, without a library. One thread.

The rings and their numbers are those of <linux/io_uring.h>. Every send is complete when the call
returns (MSG_DONTWAIT), so the kernel never reads a frame's memory after that.
"""

import ctypes
import errno
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from typing import Any, Final

SETUP: Final = 425  # system calls, the same on every architecture but Alpha
ENTER: Final = 426
SQES_AT: Final = 0x10000000  # offset for mmap
GETEVENTS: Final = 1
SINGLE_MMAP: Final = 1
OP_SEND: Final = 26
SEND_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
SQE_BYTES: Final = 64
CQE: Final = struct.Struct("=Qii")  # user data, result, flags
FIELDS: Final = struct.Struct("=10I10I10I")  # struct io_uring_params, its u64 as two u32

# PyDLL keeps the GIL. Giving it up at each send would mean waiting for a busy thread each time.
_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class Ring:
    """One submission and one completion ring. Raises OSError where the kernel forbids it."""

    def __init__(self, entries: int) -> None:
        params = ctypes.create_string_buffer(FIELDS.size)
        self._fd: Final = _checked(_syscall(ctypes.c_long(SETUP), ctypes.c_uint(entries), params))
        fields = FIELDS.unpack(params.raw)
        self._entries, self._completions = fields[0], fields[1]
        try:
            if not fields[5] & SINGLE_MMAP:
                raise OSError(errno.ENOSYS, "io_uring older than Linux 5.4")
            self._map_rings(fields[10:20], fields[20:30])
            self._map_sends()
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)

    def _map_rings(self, sends: Sequence[int], done: Sequence[int]) -> None:
        """The offsets of struct io_sqring_offsets and io_cqring_offsets."""
        length = max(sends[6] + self._entries * 4, done[5] + self._completions * CQE.size)
        view = memoryview(mmap.mmap(self._fd, length, mmap.MAP_SHARED))
        self._tail = _u32(view, sends[1], 1)
        self._order = _u32(view, sends[6], self._entries)
        self._done_head, self._done_tail = _u32(view, done[0], 1), _u32(view, done[1], 1)
        self._done = view[done[5] : done[5] + self._completions * CQE.size]
        self._in_order = array("I", range(self._entries)) * 2

    def _map_sends(self) -> None:
        """What never changes is written once: a call fills in descriptor, address and length."""
        table = mmap.mmap(self._fd, self._entries * SQE_BYTES, mmap.MAP_SHARED, offset=SQES_AT)
        for index in range(self._entries):
            struct.pack_into("=BBHiQQIIQ", table, index * SQE_BYTES,
                             OP_SEND, 0, 0, -1, 0, 0, 0, SEND_FLAGS, index)  # fmt: skip
        view = memoryview(table)
        self._descriptors = view.cast("i")[1 :: SQE_BYTES // 4]
        self._addresses = view.cast("Q")[2 :: SQE_BYTES // 8]
        self._lengths = view.cast("I")[6 :: SQE_BYTES // 4]

    def send(self, descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
        """Who did not take all of it: the index, and how many bytes (negative: an errno)."""
        short = []
        for first in range(0, len(descriptors), self._entries):
            part = descriptors[first : first + self._entries]
            short += [(first + index, result) for index, result in self._send(part, frame)]
        return short

    def _send(self, descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
        count, size = len(descriptors), len(frame)
        address = ctypes.cast(ctypes.c_char_p(frame), ctypes.c_void_p).value or 0
        self._descriptors[:count] = array("i", descriptors)
        self._addresses[:count] = array("Q", (address,)) * count
        self._lengths[:count] = array("I", (size,)) * count
        self._enter(count)
        done = self._collect(count)
        # The results alone, every fourth number, compared in C: nearly always all are whole.
        if memoryview(done).cast("i")[2::4].tolist().count(size) == count:
            return []
        return [(index, result) for index, result, _ in CQE.iter_unpack(done) if result != size]

    def _enter(self, count: int) -> None:
        """Submit the first `count` sends of the table, return when all are complete."""
        tail = self._tail[0]
        start = -tail % self._entries  # so that the slot at the tail names the first send
        self._order[:] = self._in_order[start : start + self._entries]
        self._tail[0] = (tail + count) % (1 << 32)
        submitted = 0
        while submitted < count or self._waiting() < count:
            left = count - submitted
            result = _syscall(ctypes.c_long(ENTER), self._fd, left, count, GETEVENTS, None, 0)
            if result >= 0:
                submitted += result
            elif ctypes.get_errno() not in (errno.EINTR, errno.EAGAIN, errno.EBUSY):
                _checked(result)

    def _waiting(self) -> int:
        return int(self._done_tail[0] - self._done_head[0]) % (1 << 32)

    def _collect(self, count: int) -> bytes:
        """The completions, whose slots are free then. They may wrap around the ring's end."""
        head = self._done_head[0]
        first = head % self._completions * CQE.size
        done = bytes(self._done[first : first + count * CQE.size])
        done += bytes(self._done[: count * CQE.size - len(done)])
        self._done_head[0] = (head + count) % (1 << 32)
        return done


def _u32(view: memoryview, offset: int, count: int) -> Any:
    return view[offset : offset + 4 * count].cast("I")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
