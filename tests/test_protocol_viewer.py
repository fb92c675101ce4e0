"""handlers.websocket.protocol_viewer on real sockets: held, thinned, caught up, refreshed, over."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from dev.tokens import access_token
from handlers.websocket.protocol_viewer import HELD, MESSAGE_BURST, JoinOptions
from tests.viewing import NOW, SECRET, Joined, Stage, StoredTrip, Wire, deliver, seqs
from tracking.store.read.live import PAGE
from tracking.wire.protocol import HEARTBEAT_S, late_waypoints


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
    joined.viewer.room.age(NOW + timedelta(seconds=1), 0.0)
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
        deliver(joined.viewer, late_waypoints(part))
    stage.publish(*trip.add(2))
    assert slow_wire.send_queue._unsent_bytes == 0
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
    deliver(joined.viewer, late_waypoints([stage.waypoint(52, late=True)]))
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
    stage.rooms.leave(joined.viewer.room, joined.viewer)
    joined.viewer.end()
    await asyncio.sleep(0.2)
    assert await wire.messages() == []
    assert joined.viewer._timer is None


@pytest.mark.gen_test
async def test_a_token_that_is_refreshed_before_the_welcome_is_in_it(
    trip: StoredTrip, wire: Wire
) -> None:
    trip.add(3)
    stage = trip.stage()
    stage.gate.clear()
    options = JoinOptions(epoch=stage.state.epoch, since_seq=1)
    joined = await Joined.join(stage, wire, options, stage.principal(lifetime_s=3))
    await asyncio.sleep(0)
    joined.viewer.tick(time.monotonic() + 1)
    token = access_token(SECRET, trip.owner_id, "owner", lifetime=timedelta(minutes=30))
    joined.say(type="refresh", token=token)
    stage.gate.set()
    await joined.settled()
    messages = await wire.messages()
    assert types(messages) == ["welcome", "backfill"]
    expires = joined.seat.principal.expires_at
    assert messages[0]["token_expires_at"] == f"{expires:%Y-%m-%dT%H:%M:%SZ}"
    joined.viewer.tick(time.monotonic() + 4)
    assert joined.seat.code() is None


@pytest.mark.gen_test
async def test_a_refresh_that_comes_too_late_opens_nothing(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire, None, stage.principal(lifetime_s=3))
    await joined.settled()
    joined.viewer.tick(time.monotonic() + 1)
    assert types(await wire.messages()) == ["welcome", "token_expiring"]
    joined.viewer.tick(time.monotonic() + 3)
    assert joined.seat.code() == 4401
    assert stage.state.owner_id is not None
    joined.say(type="refresh", token=access_token(SECRET, stage.state.owner_id, "owner"))
    assert await wire.messages() == []


@pytest.mark.gen_test
async def test_only_a_token_of_the_same_user_who_may_still_watch_refreshes(
    stage: Stage, wire: Wire
) -> None:
    owner = stage.state.owner_id
    assert owner is not None
    for bad in (
        access_token(SECRET, uuid4(), "owner"),
        access_token(SECRET, uuid4(), "admin"),
        access_token(SECRET, owner, "shop"),
        access_token(SECRET, owner, "runner"),
        access_token(SECRET, owner, "owner", token_type="refresh"),
        access_token(SECRET, owner, "owner", lifetime=timedelta(minutes=-1)),
    ):
        other = Wire(small=False)
        joined = await Joined.join(stage, other)
        joined.say(type="refresh", token=bad)
        assert joined.seat.code() == 4501
        other.close()
    assert stage.rooms.subscribers == 0


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
async def test_a_replaced_runner_does_not_learn_by_whom(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire, None, stage.principal("runner"))
    await joined.settled()
    stage.change(runner_id=uuid4())
    assert joined.seat.code() == 4503
    assert types(await wire.messages()) == ["welcome"]


@pytest.mark.gen_test
async def test_a_viewer_that_ends_at_once_leaves_nothing_behind(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire)
    joined.viewer.end()  # before its first step: a coroutine that never ran would warn
    stage.rooms.leave(joined.viewer.room, joined.viewer)
    await asyncio.sleep(0.01)
    assert (len(stage.rooms), stage.rooms.subscribers) == (0, 0)


@pytest.mark.gen_test
async def test_heartbeats_do_not_pile_up_for_a_stalled_viewer(
    stage: Stage, slow_wire: Wire
) -> None:
    joined = await Joined.join(stage, slow_wire)
    await joined.settled()
    slow_wire.fill()
    start = time.monotonic()
    for second in range(39):
        before = slow_wire.send_queue.last_sent
        joined.viewer.tick(start + second)
        if slow_wire.send_queue.last_sent != before:
            slow_wire.send_queue.last_sent = start + second  # the clock of this test
    assert joined.seat.code() is None
    assert len(slow_wire.send_queue._unsent or ()) <= 3 + 39 // HEARTBEAT_S


@pytest.mark.gen_test
async def test_something_arrives_every_heartbeat_though_a_browser_sees_no_pings(
    stage: Stage, wire: Wire
) -> None:
    joined = await Joined.join(stage, wire)
    await joined.settled()
    await wire.messages(until=b'"welcome"')
    start = time.monotonic()
    for second in range(120):
        now = start + second
        joined.viewer._heard_at = now
        joined.viewer.tick(now)
        # A look is a second: early by that much, never late.
        is_due = second % HEARTBEAT_S == HEARTBEAT_S - 1
        messages = await wire.messages(until=b'"heartbeat"' if is_due else b"")
        assert [each["type"] for each in messages] == ["heartbeat"] * is_due
        if is_due:
            wire.send_queue.last_sent = now


@pytest.mark.gen_test
async def test_who_asks_too_often_is_closed_once(stage: Stage, wire: Wire) -> None:
    joined = await Joined.join(stage, wire)
    await joined.settled()
    for _ in range(MESSAGE_BURST):
        joined.say(type="catch_up", since_seq=0)
    assert joined.seat.code() is None
    joined.say(type="catch_up", since_seq=0)
    assert joined.seat.code() == 4429
