"""handlers.websocket.catch_up on real sockets: nothing is missing, nothing comes twice."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from handlers.websocket.catch_up import JoinOptions
from tests.viewing import NOW, Joined, Stage, StoredTrip, Wire, seqs
from tracking.live.protocol_subscriber import HELD


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
async def test_who_joins_in_silence_is_told_that_points_are_back(stage: Stage, wire: Wire) -> None:
    """Also when they come before the next look at the room."""
    stage.state.started_at = NOW - timedelta(minutes=10)
    joined = await Joined.join(stage, wire)
    await joined.settled()
    (welcome,) = await wire.messages()
    assert welcome["freshness"]["state"] == "lost"
    stage.publish(1)
    joined.subscriber.room.age(NOW + timedelta(seconds=1), 0.0)
    _, told = await wire.messages()
    assert (told["type"], told["state"]) == ("freshness", "live")


@pytest.mark.gen_test
async def test_what_happens_while_joining_follows_what_was_missed(
    trip: StoredTrip, wire: Wire
) -> None:
    trip.add(5)
    stage = trip.stage()
    stage.gate.clear()
    joined = await Joined.join(stage, wire)
    await asyncio.sleep(0)
    stage.publish(*trip.add(3))
    stage.gate.set()
    await joined.settled()
    messages = await wire.messages()
    assert types(messages) == ["welcome", "backfill", *["location_update"] * 3]
    assert list(seqs(messages)) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [HELD - 1, HELD, HELD + 1, 3 * HELD])
async def test_more_than_can_be_held_is_read_again(trip: StoredTrip, wire: Wire, more: int) -> None:
    trip.add(5)
    stage = trip.stage()
    stage.gate.clear()
    joined = await Joined.join(stage, wire)
    await asyncio.sleep(0)
    stage.publish(*trip.add(more))
    stage.gate.set()
    await joined.settled()
    messages = await wire.messages()
    assert list(seqs(messages)) == list(range(1, 6 + more))
    # The marker of a client ends where the pet is.
    assert (messages[-1]["type"], messages[-1]["seq"]) == ("location_update", 5 + more)


@pytest.mark.gen_test
async def test_a_catch_up_while_one_runs_is_answered_after_it(trip: StoredTrip, wire: Wire) -> None:
    trip.add(6)
    stage = trip.stage()
    joined = await Joined.join(stage, wire, JoinOptions(history=False))
    await joined.settled()
    stage.gate.clear()
    joined.say(type="catch_up", since_seq=4)
    await asyncio.sleep(0)
    for since in (3, 1, 2):
        joined.say(type="catch_up", since_seq=since)
    stage.publish(*trip.add(1))
    stage.gate.set()
    await joined.settled()
    assert list(seqs(await wire.messages())) == [5, 6, 7, 2, 3, 4, 5, 6, 7]
    stage.publish(*trip.add(1))
    assert list(seqs(await wire.messages())) == [8]


@pytest.mark.gen_test
@pytest.mark.parametrize("since", [3, 4])
async def test_a_catch_up_is_answered_though_there_is_no_more(
    trip: StoredTrip, wire: Wire, since: int
) -> None:
    trip.add(3)
    joined = await Joined.join(trip.stage(), wire)
    await joined.settled()
    await wire.messages()
    joined.say(type="catch_up", since_seq=since)
    await joined.settled()
    (answer,) = await wire.messages()
    assert (answer["type"], answer["points"], answer["more"]) == ("backfill", [], False)
    assert (answer["after_seq"], answer["through_seq"]) == (3, 3)


@pytest.mark.gen_test
async def test_a_catch_up_asked_for_while_joining_is_answered_once_joined(
    trip: StoredTrip, wire: Wire
) -> None:
    trip.add(3)
    stage = trip.stage()
    joined = await Joined.join(stage, wire, JoinOptions(history=False))
    joined.say(type="catch_up", since_seq=1)
    await joined.settled()
    messages = await wire.messages()
    assert types(messages) == ["welcome", "backfill"]
    assert list(seqs(messages)) == [2, 3]


@pytest.mark.gen_test
async def test_the_end_of_the_trip_waits_for_a_catch_up(trip: StoredTrip, wire: Wire) -> None:
    trip.add(5)
    stage = trip.stage()
    stage.gate.clear()
    joined = await Joined.join(stage, wire)
    await asyncio.sleep(0)
    stage.publish(*trip.add(2))
    stage.change("completed")
    assert joined.seat.code() is None
    stage.gate.set()
    await joined.settled()
    assert joined.seat.code() == 1000
    messages = await wire.messages()
    assert list(seqs(messages)) == [1, 2, 3, 4, 5, 6, 7]
    assert messages[0]["type"] == "welcome"


@pytest.mark.gen_test
async def test_a_runner_who_is_replaced_while_joining_is_told_nothing(
    trip: StoredTrip, wire: Wire
) -> None:
    trip.add(3)
    stage = trip.stage()
    stage.gate.clear()
    options = JoinOptions(epoch=stage.state.epoch, since_seq=1)
    joined = await Joined.join(stage, wire, options, stage.principal("runner"))
    await asyncio.sleep(0)
    stage.change(runner_id=uuid4())
    stage.gate.set()
    await asyncio.sleep(0.05)
    assert joined.seat.code() == 4503
    assert await wire.messages() == []


@pytest.mark.gen_test
async def test_a_viewer_that_ends_at_once_leaves_nothing_behind(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire)
    joined.viewer.leave()  # before its first step: a coroutine that never ran would warn
    await asyncio.sleep(0.01)
    assert (len(stage.rooms), stage.rooms.subscribers) == (0, 0)
