"""workers.kafka.network: how kafka-python's sockets are read and waited for."""

import selectors
import socket
import time

import pytest
from kafka.net.compat import KafkaNetClient

from workers.kafka.network import (
    POLLS_A_SECOND,
    RECEIVED_BYTES,
    REST_S,
    ClosingClient,
    ClosingSocket,
    Selector,
)


class Unprintable(socket.socket):
    """Printing one takes four system calls."""

    def __repr__(self) -> str:
        raise AssertionError("printed")


def test_a_socket_that_is_not_registered_is_not_printed() -> None:
    with Selector() as selector, Unprintable() as unknown:
        with pytest.raises(KeyError):
            selector.get_key(unknown)
        selector.register(unknown, selectors.EVENT_READ, "data")
        assert selector.get_key(unknown).data == "data"


def test_a_socket_that_was_closed_is_still_found() -> None:
    with Selector() as selector:
        closed = socket.socket()
        selector.register(closed, selectors.EVENT_READ, "data")
        closed.close()
        assert selector.get_key(closed).data == "data"


def test_one_call_reads_more_than_it_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = ClosingSocket().socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        ours.connect(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            theirs.sendall(b"x" * RECEIVED_BYTES)
            assert ours.recv(RECEIVED_BYTES, socket.MSG_PEEK | socket.MSG_WAITALL)
            assert len(ours.recv(4096)) > 4096


def test_a_client_that_asks_without_a_pause_rests_and_one_that_waits_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(KafkaNetClient, "poll", lambda *_, **__: {})
    monkeypatch.setattr(time, "sleep", rests.append)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    client = object.__new__(ClosingClient)
    client._second, client._polls = clock[0], 0
    for _ in range(POLLS_A_SECOND):
        client.poll()
    assert rests == []
    client.poll()
    assert rests == [REST_S]
    client.poll(future=object())
    clock[0] += 1.1
    client.poll()
    assert rests == [REST_S]
