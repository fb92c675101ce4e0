"""handlers.listener on real sockets: full means hung up on, not an accept loop that spins."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from handlers.listener import RESERVED, Listener


def listener(descriptors: int) -> Listener:
    return Listener.of(socket.create_server(("127.0.0.1", 0)), descriptors)


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.settimeout(30)
        yield client


def test_a_client_is_let_in_while_there_are_descriptors(client: socket.socket) -> None:
    with closing(listener(100_000)) as listening:
        client.connect(listening.getsockname())
        connection, address = listening.accept()
        with connection:
            assert address == client.getsockname()
            connection.sendall(b"hello")
            assert client.recv(5) == b"hello"


def test_a_client_is_hung_up_on_when_only_the_reserve_is_left(
    client: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(listener(RESERVED + 1)) as listening:
        for _ in range(2):
            with socket.create_connection(listening.getsockname(), timeout=30) as rejected:
                with pytest.raises(BlockingIOError):
                    listening.accept()
                assert rejected.recv(1) == b""
    assert caplog.text.count("out of descriptors") == 1  # once a minute


def test_nobody_waits_is_what_tornado_expects() -> None:
    with closing(listener(100_000)) as listening, pytest.raises(BlockingIOError):
        listening.accept()
