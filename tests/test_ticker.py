"""handlers.websocket.ticker: a fault of one viewer ends that viewer, and nobody else."""

import asyncio
import time
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from handlers.websocket import ticker
from handlers.websocket.ticker import close_all, drain_s, tick_viewers
from tests.viewing import Joined, Stage, Wire, first_of


@pytest.fixture
def wires(io_loop: object) -> Iterator[list[Wire]]:
    made = [Wire(small=False) for _ in range(3)]
    yield made
    for each in made:
        each.close()


async def three(engine: sa.Engine, wires: list[Wire]) -> list[Joined]:
    """In one room; the first one's every tick fails."""
    stage = Stage(engine)
    joined = [await Joined.join(stage, wire) for wire in wires]
    for each in joined:
        await each.settled()
    return joined


def fail(*_: object) -> None:
    raise ZeroDivisionError("a bug")


async def tick_once(joined: Joined) -> None:
    """Until every viewer was looked at."""
    stage = joined.stage
    looked, metrics = asyncio.Event(), Mock()
    metrics.catching_up.set = lambda _: looked.set()
    task = asyncio.create_task(tick_viewers(stage.rooms.everybody, metrics))
    await first_of(task, looked)


@pytest.mark.gen_test
async def test_an_error_in_one_viewers_tick_closes_that_viewer_alone(
    engine: sa.Engine,
    wires: list[Wire],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ticker, "TICK_S", 0.001)
    broken, *others = joined = await three(engine, wires)
    monkeypatch.setattr(type(broken.viewer), "_reason_to_end", _fail_for(broken.viewer))
    await tick_once(broken)
    await tick_once(broken)  # and the next second comes
    assert [each.seat.code() for each in joined] == [1011, None, None]
    assert broken.stage.rooms.subscribers == 2
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.__dict__["request_id"] == broken.seat.request_id
    assert wires[0].metrics.live_errors.labels("viewer")._value.get() == 1
    broken.stage.publish(1)
    for each in others:
        assert [m["seq"] for m in await each.wire.messages() if "timestamp" in m] == [1]


def _fail_for(viewer: object) -> object:
    def end(self: object, now: float) -> None:
        if self is viewer:
            fail()

    return end


@pytest.mark.gen_test
async def test_a_viewer_that_cannot_even_be_closed_is_dropped(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    broken, *others = await three(engine, wires)
    broken.seat.send_close = Mock(side_effect=ZeroDivisionError)  # type: ignore[method-assign]
    await close_all(broken.stage.rooms.everybody)
    assert wires[0].stream.closed()
    assert [each.seat.code() for each in others] == [1001, 1001]
    assert broken.stage.rooms.subscribers == 0


@pytest.mark.gen_test
async def test_a_loop_that_is_late_does_not_make_the_farewell_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the step is given up, and who is left is cut off without a word."""
    waited = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    slow = Mock()
    slow.end = lambda _: time.sleep(0.01)
    monkeypatch.setattr(asyncio, "sleep", wait)
    await close_all(lambda: iter([slow] * 100))
    assert sum(waited) < 0.5  # of a second that it takes where the loop is in time


@pytest.mark.parametrize(
    ("viewers", "seconds"), [(0, 3), (1_000, 3), (10_000, 20), (30_000, 60), (1_000_000, 60)]
)
def test_viewers_leave_at_a_rate_that_others_can_take(viewers: int, seconds: float) -> None:
    assert drain_s(viewers) == seconds
