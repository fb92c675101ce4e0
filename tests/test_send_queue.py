"""tracking.live.send_queue on real sockets: what waits for a slow viewer, and for how long."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream

from tests.viewing import Wire
from tracking.live.send_queue import PAGE_LIMIT_S, TICK_S, SendQueue
from tracking.live.unsent_frames import LIMIT_BYTES, MARK, RELIEVED, SLOW_LIMIT_S
from tracking.metrics import Metrics
from tracking.wire.messages import text_frame

LONG = b" " * 2000


@pytest.fixture
def wire(io_loop: object) -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def position(number: int) -> bytes:
    return text_frame(b"position %d" % number)


@pytest.mark.gen_test
async def test_frames_leave_at_once_and_in_order(wire: Wire) -> None:
    for number in range(5):
        wire.send_queue.send(position(number), replaceable=True)
    assert await wire.frames() == [b"position %d" % number for number in range(5)]
    assert not wire.send_queue.is_busy


@pytest.mark.gen_test
async def test_the_latest_positions_win_and_status_is_never_dropped(wire: Wire) -> None:
    wire.fill()
    for number in range(100):
        wire.send_queue.send(position(number), replaceable=True)
        if number % 20 == 0:
            wire.send_queue.send(text_frame(b"status %d" % number))
    assert wire.send_queue.is_over
    got = await wire.frames()
    statuses = [each for each in got if each.startswith(b"status")]
    assert statuses == [b"status %d" % number for number in range(0, 100, 20)]
    positions = [each for each in got if each.startswith(b"position")]
    assert positions == [b"position %d" % number for number in range(100 - len(positions), 100)]
    assert 1 <= len(positions) <= MARK
    assert wire.metrics.replaced._value.get() == 100 - len(positions)
    assert not wire.send_queue.is_over


@pytest.mark.gen_test
async def test_of_what_says_all_anew_a_busy_socket_gets_only_the_newest(wire: Wire) -> None:
    wire.send_queue.send_newest(text_frame(b"flagged, at once"))
    wire.fill()
    for number in range(2_000):
        wire.send_queue.send_newest(text_frame(b"flagged %d" % number))
    assert not wire.send_queue.is_over
    got = await wire.frames()
    assert [each for each in got if each.startswith(b"flagged")] == [
        b"flagged, at once",
        b"flagged 1999",
    ]


@pytest.mark.gen_test
async def test_over_the_mark_for_five_seconds_is_stuck_though_nothing_more_comes(
    wire: Wire,
) -> None:
    wire.fill()
    for number in range(MARK - 1):
        wire.send_queue.send(position(number), replaceable=True)
    assert not wire.send_queue.is_stuck(time.monotonic() + 1000)
    wire.send_queue.send(text_frame(b"status"))
    assert not wire.send_queue.is_stuck(time.monotonic() + SLOW_LIMIT_S - 1)
    assert wire.send_queue.is_stuck(time.monotonic() + SLOW_LIMIT_S + 0.1)


@pytest.mark.gen_test
async def test_a_viewer_that_reads_again_is_not_slow_any_more(wire: Wire) -> None:
    wire.fill()
    for number in range(MARK):
        wire.send_queue.send(text_frame(b"%d" % number + LONG), replaceable=True)
    loop = asyncio.get_running_loop()
    reads = 0
    while wire.send_queue.is_over:
        reads += 1
        await asyncio.wait_for(loop.sock_recv(wire.peer, 512), 10)
    # It is told so while much still waits: below the mark, not only when nothing is left.
    assert reads
    assert 0 < len(wire.send_queue._unsent or ()) <= RELIEVED


@pytest.mark.gen_test
async def test_status_without_a_bound_is_stuck_at_once(wire: Wire) -> None:
    wire.fill()
    for _ in range(1000):
        wire.send_queue.send(text_frame(LONG))
    assert wire.send_queue.is_stuck(time.monotonic())
    assert wire.send_queue._unsent is not None
    assert wire.send_queue._unsent.size < LIMIT_BYTES + 2 * len(LONG)


@pytest.mark.gen_test
async def test_a_page_has_left_before_the_next_one(wire: Wire) -> None:
    page = text_frame(b"p" * 100_000)
    sending = asyncio.create_task(wire.send_queue.send_page(page))
    await asyncio.sleep(0)
    wire.send_queue.send(text_frame(b"status"))
    assert wire.send_queue.is_stuck(time.monotonic() + PAGE_LIMIT_S + 1)
    assert not wire.send_queue.is_stuck(time.monotonic() + PAGE_LIMIT_S - 1)
    assert not sending.done()
    assert [len(each) for each in await wire.frames(until=b"status")] == [100_000, 6]
    await asyncio.wait_for(sending, 50)
    assert not wire.send_queue.is_stuck(time.monotonic() + 1000)


@pytest.mark.gen_test
async def test_what_waits_behind_a_pong_is_sent_too(wire: Wire) -> None:
    """Tornado writes pongs and close frames past us; nobody told the queue when they were out."""
    while not wire.stream.writing():
        wire.stream.write(b"\x8a\x7d" + b"p" * 125)
    wire.send_queue.send(text_frame(b"kept"))
    page = asyncio.create_task(wire.send_queue.send_page(text_frame(b"page")))
    assert b"page" in await wire.frames(until=b"page")
    await asyncio.wait_for(page, 50)


@pytest.mark.gen_test
async def test_nothing_follows_the_end(wire: Wire) -> None:
    wire.send_queue.send(text_frame(b"before"))
    wire.send_queue.discard()
    wire.send_queue.send(text_frame(b"after"))
    wire.send_queue.ping()
    await asyncio.wait_for(wire.send_queue.send_page(text_frame(b"page")), 5)
    wire.stream.close()
    assert await wire.frames(until=b"never") == [b"before"]


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["peer", "abort", "discard"])
async def test_a_page_that_waits_ends_with_the_connection(wire: Wire, end: str) -> None:
    sending = asyncio.create_task(wire.send_queue.send_page(text_frame(b"p" * 1_000_000)))
    await asyncio.sleep(0)
    if end == "peer":
        wire.peer.close()
    else:
        getattr(wire.send_queue, end)()
    await asyncio.wait_for(sending, 50)


@pytest.mark.gen_test
async def test_a_ping_is_no_message(wire: Wire) -> None:
    wire.send_queue.last_sent = 0.0
    wire.send_queue.ping()
    wire.send_queue.tick(100.0)
    assert wire.send_queue.last_sent == 0.0
    wire.send_queue.send(text_frame(b"x"))
    wire.send_queue.tick(101.0)
    assert wire.send_queue.last_sent == 101.0 - TICK_S


FRAME = b"\x81\x05hello"


class Ends:
    """A send queue on a real connection, and who reads it."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.ours, self.theirs = ours, theirs
        self.stream = IOStream(ours)
        self.metrics = Metrics()
        self.send_queue = SendQueue(self.stream, self.metrics)

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
    assert ends.send_queue.accept(FRAME) == ends.ours.fileno()


def test_after_its_end_a_queue_accepts_nothing(ends: Ends) -> None:
    """Whoever left during a broadcast gets no frame behind the close frame."""
    ends.send_queue.discard()
    assert ends.send_queue.accept(FRAME) is None


def test_a_closed_connections_descriptor_is_not_given(ends: Ends) -> None:
    """Its number may be another viewer's already."""
    ends.stream.close()
    assert ends.send_queue.accept(FRAME) is None


@pytest.mark.gen_test
async def test_the_rest_of_a_frame_goes_before_what_comes_after_it(ends: Ends) -> None:
    taken = ends.fill()
    ends.send_queue.complete(FRAME, 3)  # as if the last three bytes of room had been for it
    assert ends.send_queue.accept(b"\x81\x01A") is None
    assert ends.send_queue.accept(b"\x81\x01B") is None
    found = await ends.read(taken + len(FRAME) - 3 + 6)
    assert found[taken:] == FRAME[3:] + b"\x81\x01A\x81\x01B"


@pytest.mark.gen_test
async def test_a_socket_that_would_block_gets_the_whole_frame_later(ends: Ends) -> None:
    taken = ends.fill()
    ends.send_queue.complete(FRAME, -11)
    assert (await ends.read(taken + len(FRAME)))[taken:] == FRAME


def test_any_other_error_aborts_the_connection(ends: Ends) -> None:
    ends.send_queue.complete(FRAME, -104)
    assert ends.stream.closed()


@pytest.mark.gen_test
async def test_newer_positions_replace_those_that_wait(ends: Ends) -> None:
    taken = ends.fill()
    ends.send_queue.complete(FRAME, -11)
    for number in range(MARK + 3):
        assert ends.send_queue.accept(bytes([0x81, 1, number])) is None
    found = await ends.read(taken + len(FRAME) + MARK * 3)
    kept = found[taken + len(FRAME) :]
    assert list(kept[2::3]) == list(range(3, MARK + 3))


def test_what_somebody_else_writes_is_waited_for(ends: Ends) -> None:
    """Tornado answers pings by itself; a frame between two halves of a pong would end it all."""
    assert ends.send_queue.accept(FRAME) is not None
    ends.fill()
    ends.stream.write(b"\x8a\x02..").add_done_callback(lambda future: future.exception())
    ends.send_queue.share()
    assert ends.send_queue.accept(FRAME) is None
