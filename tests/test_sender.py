"""tracking.live.sender and tracking.live.io_uring: one frame to many sockets, by both ways."""

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.raw_sockets import RESET
from tracking.live.io_uring import Ring
from tracking.live.sender import Sender, fastest_sender, send_each

ENTRIES = 16
FRAME = b"\x81\x7e\x01\x2c" + bytes(range(256)) + b"x" * 44

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["send_each", "io_uring"])
def send(request: pytest.FixtureRequest) -> Iterator[Sender]:
    """A ring so small that most tests go round its end."""
    if request.param == "send_each":
        yield send_each
        return
    try:
        ring = Ring(ENTRIES)
    except OSError as error:
        pytest.skip(f"io_uring is not permitted here: {error.strerror}")
    yield ring.send
    ring.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Real TCP connections: who sends, who reads."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:
        made = []
        for _ in range(40):
            reader = stack.enter_context(socket.create_connection(listener.getsockname()))
            sender = stack.enter_context(listener.accept()[0])
            sender.setblocking(False)
            made.append((sender, reader))
        yield made


def descriptors(pairs: list[Pair]) -> list[int]:
    return [sender.fileno() for sender, _ in pairs]


def read(reader: socket.socket, size: int) -> bytes:
    reader.settimeout(5)
    found = b""
    while len(found) < size and (part := reader.recv(size - len(found))):
        found += part
    return found


def fill(sender: socket.socket) -> None:
    """Until the socket takes no more, also when all acknowledgements are in."""
    taken = 1
    while taken:
        select.select([], [sender], [], 0.01)
        taken = sum(_push(sender, size) for size in (65536, 1))


def _push(sender: socket.socket, size: int) -> int:
    taken = 0
    while True:
        try:
            taken += sender.send(b"f" * size)
        except BlockingIOError:
            return taken


def test_every_socket_gets_every_frame_in_order(send: Sender, pairs: list[Pair]) -> None:
    frames = [FRAME + bytes([number]) for number in range(50)]
    for frame in frames:
        assert send(descriptors(pairs), frame) == []
    whole = b"".join(frames)
    for _, reader in pairs:
        assert read(reader, len(whole)) == whole


def test_nobody_is_sent_nothing(send: Sender) -> None:
    assert send([], FRAME) == []


def test_a_full_socket_would_block_and_its_neighbours_get_theirs(
    send: Sender, pairs: list[Pair]
) -> None:
    fill(pairs[3][0])
    fill(pairs[38][0])
    assert send(descriptors(pairs), FRAME) == [(3, -errno.EAGAIN), (38, -errno.EAGAIN)]
    assert all(read(reader, len(FRAME)) == FRAME for _, reader in pairs[4:38])


def test_a_socket_that_blocks_is_not_waited_for(send: Sender, pairs: list[Pair]) -> None:
    fill(pairs[0][0])
    pairs[0][0].setblocking(True)
    assert send(descriptors(pairs[:20]), FRAME) == [(0, -errno.EAGAIN)]


def test_a_short_send_says_how_much_was_taken(send: Sender, pairs: list[Pair]) -> None:
    large = FRAME * 50_000  # 15 MB: more than any socket's buffer
    ((index, taken),) = send(descriptors(pairs[7:8]), large)
    assert index == 0
    assert 0 < taken < len(large)
    assert read(pairs[7][1], taken) == large[:taken]


def test_a_peer_that_is_gone_is_told_of_and_no_signal_kills(
    send: Sender, pairs: list[Pair]
) -> None:
    pairs[5][1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    pairs[5][1].close()  # with a reset
    results = [send(descriptors(pairs), FRAME) for _ in range(2)]
    assert [[index for index, _ in result] for result in results] == [[5], [5]]
    assert results[0][0][1] in (-errno.ECONNRESET, -errno.EPIPE)
    assert results[1][0][1] == -errno.EPIPE


def test_a_closed_descriptor_hurts_nobody_else(send: Sender, pairs: list[Pair]) -> None:
    numbers = descriptors(pairs[:3])
    pairs[1][0].close()
    assert send(numbers, FRAME) == [(1, -errno.EBADF)]
    assert read(pairs[2][1], len(FRAME)) == FRAME


def test_sends_go_on_after_the_rings_counters_wrapped(send: Sender, pairs: list[Pair]) -> None:
    """Results must be those of this call, wherever in the ring they lie."""
    for number in range(60):
        part = pairs[number % 30 : number % 30 + 7]
        fill(part[number % 7][0])
        assert send(descriptors(part), b"!")[0] == (number % 7, -errno.EAGAIN)
        for _, reader in pairs:
            drain(reader)


def drain(reader: socket.socket) -> None:
    reader.setblocking(False)
    try:
        while reader.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


def test_without_io_uring_each_send_is_a_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbidden(*_: Any) -> Ring:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("tracking.live.sender.Ring", forbidden)
    with caplog.at_level("INFO", "tracking.sender"):
        assert fastest_sender() is send_each
    assert "Operation not permitted" in caplog.text


def test_the_fastest_way_sends_to_few_and_to_many(pairs: list[Pair]) -> None:
    send = fastest_sender()
    assert send(descriptors(pairs[:2]), FRAME) == []
    assert send(descriptors(pairs), FRAME) == []
    assert read(pairs[0][1], 2 * len(FRAME)) == FRAME * 2
    assert read(pairs[39][1], len(FRAME)) == FRAME
