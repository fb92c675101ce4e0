"""A TCP proxy before PostgreSQL or before the service, which does what networks do."""

import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Can refuse, cut, go silent, hold a statement, and lose the answer to a COMMIT.

    Any thread may tell it to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = True
        self._flowing = threading.Event()
        self._flowing.set()
        self._holds: bytes | None = None
        self._released = threading.Event()
        self._answers_to_lose = 0
        self.delay_s = 0.0  # before each piece goes on, either way
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost_answers = 0
        self.held = 0  # connections whose statement was held
        self.asked = 0  # messages from the clients, or pieces of large ones
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and every new one at once."""
        self._open = False
        self._end_all()

    def hang(self) -> None:
        """Keep everything open and let nothing through."""
        self._flowing.clear()

    def hold(self, statement: bytes) -> None:
        """Each connection that sends this waits, and only those, until `heal`."""
        self._released.clear()
        self._holds = statement

    def heal(self) -> None:
        self._open = True
        self._flowing.set()
        self._holds = None
        self._released.set()

    def lose_answers(self, number: int) -> None:
        """The next COMMITs reach the server; their answers, and the connections, get lost."""
        self._answers_to_lose += number

    def close(self) -> None:
        self.heal()
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._open:
                    client.close()
                    continue
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            upstream = socket.create_connection(self._target)
        except OSError:  # as the server itself would refuse
            client.close()
            return
        self._pairs += [client, upstream]
        committing = threading.Event()
        for pair in ((client, upstream, True), (upstream, client, False)):
            threading.Thread(target=self._copy, args=(*pair, committing), daemon=True).start()

    def _copy(
        self, source: socket.socket, target: socket.socket, asks: bool, committing: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.delay_s:
                    time.sleep(self.delay_s)
                self._flowing.wait()
                self.asked += asks
                if asks and self._holds is not None and self._holds in data:
                    self.held += 1
                    self._released.wait()
                if asks and self._answers_to_lose > 0 and b"COMMIT\0" in data:
                    self._answers_to_lose -= 1
                    committing.set()
                if not asks and committing.is_set():
                    self.lost_answers += 1
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _end_all(self) -> None:
        pairs, self._pairs = self._pairs, []
        for each in pairs:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
