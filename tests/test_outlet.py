"""handlers.outlet: what goes straight to a socket, what waits, and when nothing may follow."""

import socket
from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from handlers.outlet import MARK, Outlet
from tracking.metrics import Metrics

FRAME = b"\x81\x05hello"


class Ends:
    """An outlet on a real connection, and who reads it."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.ours, self.theirs = ours, theirs
        self.stream = IOStream(ours)
        self.metrics = Metrics()
        self.outlet = Outlet(self.stream, self.metrics)

    def fill(self) -> int:
        """Until the socket takes no more; how many bytes that were."""
        taken = 0
        while True:
            try:
                taken += self.ours.send(b"f" * 65536)
            except BlockingIOError:
                return taken

    async def read(self, size: int) -> bytes:
        self.theirs.setblocking(False)
        return await IOStream(self.theirs).read_bytes(size)


@pytest.fixture
def ends(io_loop: IOLoop) -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        ours.setblocking(False)
        yield Ends(ours, theirs)
        ours.close()
        theirs.close()


def test_a_free_socket_may_be_sent_to_at_once(ends: Ends) -> None:
    assert ends.outlet.take(FRAME) == ends.ours.fileno()


def test_after_its_end_an_outlet_takes_nothing(ends: Ends) -> None:
    """Whoever left during a broadcast gets no frame behind the close frame."""
    ends.outlet.discard()
    assert ends.outlet.take(FRAME) is None


def test_a_closed_connections_descriptor_is_not_given(ends: Ends) -> None:
    """Its number may be another viewer's already."""
    ends.stream.close()
    assert ends.outlet.take(FRAME) is None


@pytest.mark.gen_test
async def test_the_rest_of_a_frame_goes_before_what_comes_after_it(ends: Ends) -> None:
    taken = ends.fill()
    ends.outlet.sent(FRAME, 3)  # as if the last three bytes of room had been for it
    assert ends.outlet.take(b"\x81\x01A") is None
    assert ends.outlet.take(b"\x81\x01B") is None
    found = await ends.read(taken + len(FRAME) - 3 + 6)
    assert found[taken:] == FRAME[3:] + b"\x81\x01A\x81\x01B"


@pytest.mark.gen_test
async def test_a_socket_that_would_block_gets_the_whole_frame_later(ends: Ends) -> None:
    taken = ends.fill()
    ends.outlet.sent(FRAME, -11)
    assert (await ends.read(taken + len(FRAME)))[taken:] == FRAME


def test_any_other_error_cuts_the_connection(ends: Ends) -> None:
    ends.outlet.sent(FRAME, -104)
    assert ends.stream.closed()


@pytest.mark.gen_test
async def test_newer_positions_replace_those_that_wait(ends: Ends) -> None:
    taken = ends.fill()
    ends.outlet.sent(FRAME, -11)
    for number in range(MARK + 3):
        assert ends.outlet.take(bytes([0x81, 1, number])) is None
    found = await ends.read(taken + len(FRAME) + MARK * 3)
    kept = found[taken + len(FRAME) :]
    assert list(kept[2::3]) == list(range(3, MARK + 3))


def test_what_somebody_else_writes_is_waited_for(ends: Ends) -> None:
    """Tornado answers pings by itself; a frame between two halves of a pong would end it all."""
    assert ends.outlet.take(FRAME) is not None
    ends.fill()
    ends.stream.write(b"\x8a\x02..").add_done_callback(lambda future: future.exception())
    ends.outlet.share()
    assert ends.outlet.take(FRAME) is None
