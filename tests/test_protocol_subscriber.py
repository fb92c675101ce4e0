"""tracking.live.protocol_subscriber on real sockets: held, thinned, late, over."""

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
import sqlalchemy as sa

from handlers.websocket.catch_up import JoinOptions
from tests.viewing import Joined, Stage, StoredTrip, Wire, deliver, seqs
from tracking.live.protocol_subscriber import ProtocolSubscriber
from tracking.store.read.live import PAGE
from tracking.wire.protocol import late_waypoints


@pytest.fixture
def wire(io_loop: object) -> Iterator[Wire]:
    made = Wire(small=False)
    yield made
    made.close()


@pytest.fixture
def slow_wire(io_loop: object) -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def trip(engine: sa.Engine) -> StoredTrip:
    return StoredTrip(engine)


@pytest.fixture
def stage(io_loop: object, engine: sa.Engine) -> Stage:
    return Stage(engine)


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [each["type"] for each in messages]


@pytest.mark.gen_test
async def test_a_slow_viewer_gets_late_waypoints_page_by_page(
    trip: StoredTrip, slow_wire: Wire
) -> None:
    """Pages of 130 kB are not queued for it; memory holds the one that leaves."""
    stage = trip.stage()
    joined = await Joined.join(stage, slow_wire)
    await joined.settled()
    assert stage.room is not None
    late = trip.add(5 * PAGE)
    for first in range(late.start, late.stop, PAGE):
        part = [stage.waypoint(seq, late=True) for seq in range(first, first + PAGE)]
        for waypoint in part:
            stage.room.moved(waypoint)
        deliver(joined.subscriber, late_waypoints(part))
    stage.publish(*trip.add(2))
    assert slow_wire.send_queue._unsent is None
    last = b'"seq":%d' % (5 * PAGE + 2)
    messages = await slow_wire.messages(until=last)
    assert list(seqs(messages)) == list(range(1, 5 * PAGE + 3))
    await joined.settled()
    assert joined.seat.code() is None


@pytest.mark.gen_test
async def test_thinning_never_loses_the_newest(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire, JoinOptions(min_interval_s=0.2))
    await joined.settled()
    stage.publish(*range(1, 50))
    first = await wire.messages()
    assert list(seqs(first)) == [1]
    assert list(seqs(await wire.messages(until=b'"seq":49'))) == [49]
    stage.publish(50, 51)
    deliver(joined.subscriber, late_waypoints([stage.waypoint(52, late=True)]))
    got = list(seqs(await wire.messages(until=b'"seq":52')))
    assert got[-2:] == [51, 52]


@pytest.mark.gen_test
async def test_what_was_thinned_is_in_a_catch_up_and_not_sent_after_it(
    trip: StoredTrip, wire: Wire
) -> None:
    stage = trip.stage()
    joined = await Joined.join(stage, wire, JoinOptions(min_interval_s=0.15))
    await joined.settled()
    stage.publish(*trip.add(5))
    stage.gate.clear()
    joined.say(type="catch_up", since_seq=1)
    await asyncio.sleep(0.3)  # its interval ends meanwhile
    stage.gate.set()
    await joined.settled()
    assert list(seqs(await wire.messages())) == [1, 2, 3, 4, 5]
    stage.publish(*trip.add(3))
    assert list(seqs(await wire.messages(until=b'"seq":8'))) == [6, 8]


@pytest.mark.gen_test
async def test_no_thinned_position_follows_the_end(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire, JoinOptions(min_interval_s=0.1))
    await joined.settled()
    stage.publish(1, 2)
    await wire.messages()
    joined.viewer.leave()
    await asyncio.sleep(0.2)
    assert await wire.messages() == []
    assert joined.subscriber._timer is None


@pytest.mark.gen_test
async def test_the_end_of_the_trip_reaches_a_slow_viewer_before_the_close(
    stage: Stage, slow_wire: Wire
) -> None:
    """1000 says that there is nothing to come back for: so nothing may be missing."""
    joined = await Joined.join(stage, slow_wire)
    await joined.settled()
    slow_wire.fill()
    stage.publish(1, 2, 3)
    stage.change("completed")
    assert joined.seat.code() is None
    messages = await slow_wire.messages(until=b"track_update")
    assert list(seqs(messages)) == [1, 2, 3]
    assert messages[-1]["type"] == "track_update"
    await joined.settled()
    assert joined.seat.code() == 1000


@pytest.mark.gen_test
async def test_a_replaced_runner_does_not_learn_by_whom(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire, None, stage.principal("runner"))
    await joined.settled()
    stage.change(runner_id=uuid4())
    assert joined.seat.code() == 4503
    assert types(await wire.messages()) == ["welcome"]


@pytest.mark.gen_test
async def test_an_error_in_a_thinned_position_closes_that_viewer(
    stage: Stage, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = await Joined.join(stage, wire, JoinOptions(min_interval_s=0.01))
    await joined.settled()
    closed = asyncio.Event()
    monkeypatch.setattr(joined.seat, "send_close", lambda _: closed.set())
    monkeypatch.setattr(ProtocolSubscriber, "_send", Mock(side_effect=ZeroDivisionError))
    stage.publish(1, 2)
    await asyncio.wait_for(closed.wait(), 5)
    assert stage.rooms.subscribers == 0
