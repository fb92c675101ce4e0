"""handlers.outlet on real sockets: what waits for a slow viewer, and for how long."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from handlers.outlet import LIMIT_BYTES, MARK, PAGE_LIMIT_S, RELIEVED, SLOW_LIMIT_S
from tests.viewing import Wire
from tracking.messages import text_frame

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
        wire.outlet.send(position(number), replaceable=True)
    assert await wire.frames() == [b"position %d" % number for number in range(5)]
    assert not wire.outlet.is_busy


@pytest.mark.gen_test
async def test_the_latest_positions_win_and_status_is_never_dropped(wire: Wire) -> None:
    wire.fill()
    for number in range(100):
        wire.outlet.send(position(number), replaceable=True)
        if number % 20 == 0:
            wire.outlet.send(text_frame(b"status %d" % number))
    assert wire.outlet.is_over
    got = await wire.frames()
    statuses = [each for each in got if each.startswith(b"status")]
    assert statuses == [b"status %d" % number for number in range(0, 100, 20)]
    positions = [each for each in got if each.startswith(b"position")]
    assert positions == [b"position %d" % number for number in range(100 - len(positions), 100)]
    assert 1 <= len(positions) <= MARK
    assert wire.metrics.replaced._value.get() == 100 - len(positions)
    assert not wire.outlet.is_over


@pytest.mark.gen_test
async def test_over_the_mark_for_five_seconds_is_stuck_though_nothing_more_comes(
    wire: Wire,
) -> None:
    wire.fill()
    for number in range(MARK - 1):
        wire.outlet.send(position(number), replaceable=True)
    assert not wire.outlet.is_stuck(time.monotonic() + 1000)
    wire.outlet.send(text_frame(b"status"))
    assert not wire.outlet.is_stuck(time.monotonic() + SLOW_LIMIT_S - 1)
    assert wire.outlet.is_stuck(time.monotonic() + SLOW_LIMIT_S + 0.1)


@pytest.mark.gen_test
async def test_a_viewer_that_reads_again_is_not_slow_any_more(wire: Wire) -> None:
    wire.fill()
    for number in range(MARK):
        wire.outlet.send(text_frame(b"%d" % number + LONG), replaceable=True)
    loop = asyncio.get_running_loop()
    reads = 0
    while wire.outlet.is_over:
        reads += 1
        await asyncio.wait_for(loop.sock_recv(wire.peer, 512), 10)
    # It is told so while much still waits: below the mark, not only when nothing is left.
    assert reads
    assert 0 < len(wire.outlet._unsent) <= RELIEVED


@pytest.mark.gen_test
async def test_status_without_a_bound_is_stuck_at_once(wire: Wire) -> None:
    wire.fill()
    for _ in range(1000):
        wire.outlet.send(text_frame(LONG))
    assert wire.outlet.is_stuck(time.monotonic())
    assert wire.outlet._unsent_bytes < LIMIT_BYTES + 2 * len(LONG)


@pytest.mark.gen_test
async def test_a_page_has_left_before_the_next_one(wire: Wire) -> None:
    page = text_frame(b"p" * 100_000)
    sending = asyncio.create_task(wire.outlet.send_page(page))
    await asyncio.sleep(0)
    wire.outlet.send(text_frame(b"status"))
    assert wire.outlet.is_stuck(time.monotonic() + PAGE_LIMIT_S + 1)
    assert not wire.outlet.is_stuck(time.monotonic() + PAGE_LIMIT_S - 1)
    assert not sending.done()
    assert [len(each) for each in await wire.frames(until=b"status")] == [100_000, 6]
    await asyncio.wait_for(sending, 5)
    assert not wire.outlet.is_stuck(time.monotonic() + 1000)


@pytest.mark.gen_test
async def test_what_waits_behind_a_pong_is_sent_too(wire: Wire) -> None:
    """Tornado writes pongs and close frames past us; nobody told the outlet when they were out."""
    while not wire.stream.writing():
        wire.stream.write(b"\x8a\x7d" + b"p" * 125)
    wire.outlet.send(text_frame(b"kept"))
    page = asyncio.create_task(wire.outlet.send_page(text_frame(b"page")))
    assert b"page" in await wire.frames(until=b"page")
    await asyncio.wait_for(page, 5)


@pytest.mark.gen_test
async def test_nothing_follows_the_end(wire: Wire) -> None:
    wire.outlet.send(text_frame(b"before"))
    wire.outlet.discard()
    wire.outlet.send(text_frame(b"after"))
    wire.outlet.ping()
    await asyncio.wait_for(wire.outlet.send_page(text_frame(b"page")), 5)
    wire.stream.close()
    assert await wire.frames(until=b"never") == [b"before"]


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["peer", "cut", "discard"])
async def test_a_page_that_waits_ends_with_the_connection(wire: Wire, end: str) -> None:
    sending = asyncio.create_task(wire.outlet.send_page(text_frame(b"p" * 1_000_000)))
    await asyncio.sleep(0)
    if end == "peer":
        wire.peer.close()
    else:
        getattr(wire.outlet, end)()
    await asyncio.wait_for(sending, 5)


@pytest.mark.gen_test
async def test_a_ping_is_no_message(wire: Wire) -> None:
    wire.outlet.last_sent = 0.0
    wire.outlet.ping()
    assert wire.outlet.last_sent == 0.0
    wire.outlet.send(text_frame(b"x"))
    assert wire.outlet.last_sent > 0
