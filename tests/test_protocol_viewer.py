"""handlers.websocket.protocol_viewer on real sockets: tokens, heartbeats, what clients ask."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from dev.tokens import access_token
from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.talking_viewer import MESSAGE_BURST
from tests.viewing import SECRET, Joined, Stage, StoredTrip, Wire
from tracking.wire.protocol import HEARTBEAT_S


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
    expires = joined.subscriber.principal.expires_at
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
    start = wire.send_queue.last_sent = time.monotonic()  # on a slow machine it is later
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
