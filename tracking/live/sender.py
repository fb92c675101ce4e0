"""One ready frame to many sockets, without waiting and without giving up the GIL."""

import ctypes
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from tracking.live.io_uring import Ring

log = logging.getLogger("tracking.sender")

# Who did not take the whole frame: its index, and how many bytes it took (negative: an errno).
Sender = Callable[[Sequence[int], bytes], list[tuple[int, int]]]

# Sends in one system call; one takes three to eight microseconds, and nobody else runs meanwhile.
RING_ENTRIES: Final = 1024
# For fewer, filling the ring costs more than it saves.
WORTH_A_RING: Final = 8
FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

# `socket.send` gives up the GIL at each call and waits a whole switch interval for it while another
# thread is busy, as with a Kafka backlog. PyDLL keeps it; these sends never block.
_send = ctypes.PyDLL(None, use_errno=True).send
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = ctypes.c_ssize_t


def send_each(descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
    """A system call for each socket."""
    size, short = len(frame), []
    for index, descriptor in enumerate(descriptors):
        count = _send(descriptor, frame, size, FLAGS)
        if count != size:
            short.append((index, count if count >= 0 else -ctypes.get_errno()))
    return short


def fastest_sender() -> Sender:
    """One call for all where the kernel permits io_uring, else a call for each; logs which."""
    try:
        ring = Ring(RING_ENTRIES)
        _try(ring)
    except OSError as error:
        log.info("io_uring is not available (%s): a system call for each send", error.strerror)
        return send_each

    def send(descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
        few = len(descriptors) < WORTH_A_RING
        return send_each(descriptors, frame) if few else ring.send(descriptors, frame)

    log.info("io_uring: one system call for up to %d sends", RING_ENTRIES)
    return send


def _try(ring: Ring) -> None:
    """Some kernels have the ring and not the operation; some sandboxes refuse at the first use."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _, result in ring.send([ours.fileno()], b"?"):
            raise OSError(-result, os.strerror(-result))
