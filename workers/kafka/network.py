"""How kafka-python's sockets and clients behave, put right where they leak, spin or are slow.

Private parts of kafka-python, hence the version that patches.py asserts.
"""

import selectors
import time
from socket import socket
from typing import TYPE_CHECKING, Any, Final

from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

# More than this no client of ours needs, whatever it sends or reads: then each waits for a moment.
POLLS_A_SECOND: Final = 500
REST_S: Final = 0.02
# What one system call may read; more would be mapped anew each time.
RECEIVED_BYTES: Final = 64 << 10


class ClosingSocket(KafkaNetSocket):  # type: ignore[misc]
    """Closes itself when it cannot connect. A "proxy" to the client that uses it.

    kafka-python leaves it to the collector, which comes late where little is allocated.
    """

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket, *args: Any, **options: Any) -> socket:
        try:
            await super().sock_connect(net, sock, *args, **options)
        except BaseException:
            sock.close()
            raise
        return sock

    def socket(self, *kind: int) -> socket:
        return _Socket(*kind)


class _Socket(socket):
    """Gives as much as there is: kafka-python asks for 4 kB, a system call and the GIL each."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        return super().recv(max(size, RECEIVED_BYTES), flags)


class ClosingClient(KafkaNetClient):  # type: ignore[misc]
    """Leaves nothing behind when no broker answers while its owner is constructed, and never spins.

    kafka-python forgets the client's thread and descriptors then, five for each try, and a
    producer whose broker went away takes two thirds of a core.
    """

    def __init__(self, **configs: Any) -> None:
        self._second, self._polls = 0.0, 0
        super().__init__(**configs)
        self._bootstrap_manager = self._manager.bootstrap
        self._manager.bootstrap = self._bootstrap_or_close

    def poll(self, timeout_ms: float | None = None, future: Any = None) -> Any:
        """A producer with something to send asks without a pause until its broker is connected."""
        now = time.monotonic()
        if now - self._second > 1.0:
            self._second, self._polls = now, 0
        self._polls += 1
        if self._polls > POLLS_A_SECOND and future is None:
            time.sleep(REST_S)
        return super().poll(timeout_ms=timeout_ms, future=future)

    def _bootstrap_or_close(self, *args: Any, **options: Any) -> None:
        try:
            self._bootstrap_manager(*args, **options)
        except BaseException:
            self.close()
            raise


class Selector(selectors.DefaultSelector):
    """Says that a socket is not registered without printing it, which takes four system calls.

    kafka-python asks before each wait for a socket.
    """

    _fd_to_key: dict[int, selectors.SelectorKey]

    def get_key(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if number >= 0 and number not in self._fd_to_key:
            raise KeyError(number)
        return super().get_key(fileobj)
