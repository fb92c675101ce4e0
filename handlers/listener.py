"""The listening socket: out of descriptors it closes new connections instead of spinning.

IOLoop thread.
"""

import errno
import logging
import socket
import time
from typing import Any, Final

log = logging.getLogger("tracking.requests")

# Descriptors that no client gets: a database or broker that comes back needs new ones.
RESERVED: Final = 100
FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Nothing can be accepted, not even to be closed: better a short pause than a spin.
PAUSE_S: Final = 0.01
SAID_EVERY_S: Final = 60.0


class Listener(socket.socket):
    """Closes what it accepts when few descriptors are left; says so once a minute."""

    highest: int
    _said_at: float

    @classmethod
    def of(cls, listening: socket.socket, descriptors: int) -> "Listener":
        """Owns the socket from now on. `descriptors`: the process's limit."""
        listener = cls(fileno=listening.detach())
        listener.setblocking(False)
        # The kernel gives the lowest free number: a high one says that few are left.
        listener.highest = max(descriptors - RESERVED, 1)
        listener._said_at = float("-inf")
        return listener

    def accept(self) -> tuple[socket.socket, Any]:
        """As Tornado expects it; BlockingIOError ends its round."""
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._say()
            time.sleep(PAUSE_S)
            raise BlockingIOError from None
        if connection.fileno() >= self.highest:
            self._say()
            connection.close()
            raise BlockingIOError
        return connection, address

    def _say(self) -> None:
        if time.monotonic() - self._said_at > SAID_EVERY_S:
            self._said_at = time.monotonic()
            log.error("out of descriptors, new connections are rejected: raise the limit (nofile)")
