"""tracking.live.room: the state of a watched booking, and what its subscribers are told."""

from datetime import UTC, datetime, timedelta
from typing import Literal
from unittest.mock import Mock
from uuid import uuid4

import pytest

from tests.viewing import Seat, Told, active_state, entered, stored_waypoint
from tracking.domain.access import Principal
from tracking.domain.changes import Heard
from tracking.domain.times import rfc3339
from tracking.domain.tracks import TrackChange
from tracking.live.room import Room
from tracking.live.rooms import Rooms
from tracking.wire.messages import location_update

AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


@pytest.mark.gen_test
async def test_after_a_change_the_marker_is_read_anew() -> None:
    """A delivery that was told of late takes the newest waypoints out of the route."""
    rooms, state = Rooms(), active_state(3)
    room = await entered(rooms, state)
    room.moved(stored_waypoint(state.booking_id, 4))
    change = TrackChange(
        state.booking_id, uuid4(), "active", "to_pickup", None, "completed", "done", uuid4(), None,
        "epoch", AT, AT,
    )  # fmt: skip
    room.changed(change)
    read = active_state(4, state.booking_id)
    read.status, read.last = "completed", stored_waypoint(state.booking_id, 2)
    assert await entered(rooms, read) is room
    room.moved(stored_waypoint(state.booking_id, 5, late=True))
    assert (state.head_seq, state.last and state.last.seq) == (5, 2)


@pytest.mark.gen_test
async def test_who_joins_gets_the_newest_position_encoded_once_for_all() -> None:
    rooms, state = Rooms(), active_state()
    room = await entered(rooms, state)
    assert room.position() is None
    for seq in (1, 2):
        room.moved(stored_waypoint(state.booking_id, seq))
        position = room.position()
        assert position is not None
        assert position.seq == seq
        assert position is room.position()
        assert state.last is not None
        assert position.frame == location_update(state.last).frame


def reasons(subscriber: Told) -> list[tuple[str, str | None]]:
    return [(each["state"], each["reason"]) for each in subscriber.told]


async def watched() -> tuple[Room, Told]:
    """A trip that began at AT, and who is told of it."""
    rooms, state = Rooms(), active_state()
    state.started_at = AT
    room = await entered(rooms, state)
    subscriber = Told(room)
    rooms.join(subscriber)
    return room, subscriber


@pytest.mark.gen_test
async def test_silence_is_told_with_whose_it_is_and_so_is_its_end() -> None:
    room, subscriber = await watched()
    for seconds, delay_s in ((0, 0), (29, 0), (31, 0), (32, 20), (100, 0), (121, 0), (122, 0)):
        room.age(AT + timedelta(seconds=seconds), delay_s)
    room.moved(stored_waypoint(room.booking_id, 123))
    room.age(AT + timedelta(seconds=124), 0)
    assert reasons(subscriber) == [
        ("stale", "no_points"), ("stale", "pipeline_delayed"), ("stale", "no_points"),
        ("lost", "no_points"), ("live", None),
    ]  # fmt: skip
    assert subscriber.told[-1]["last_received_at"] == rfc3339(AT + timedelta(seconds=123))


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", ["late", "parked", "refused", "duplicate"])
async def test_a_runner_who_is_heard_without_moving_the_marker_is_not_called_silent(
    kind: Literal["late", "parked", "refused", "duplicate"],
) -> None:
    room, subscriber = await watched()
    room.moved(stored_waypoint(room.booking_id, 1))
    for second in range(5, 201, 5):
        at = AT + timedelta(seconds=second)
        if second <= 150:
            room.heard(Heard(room.booking_id, at, kind))
            if kind == "late":
                late = stored_waypoint(room.booking_id, second, late=True)
                room.moved(late)
        room.age(at, 0)
    assert reasons(subscriber) == [
        ("stale", "no_usable_points"), ("lost", "no_usable_points"), ("lost", "no_points"),
    ]  # fmt: skip
    _, lost, silent = subscriber.told
    assert lost["last_received_at"] == rfc3339(AT + timedelta(seconds=125))
    assert lost["next_expected_at"] is not None
    assert silent["last_received_at"] == rfc3339(AT + timedelta(seconds=150))
    assert silent["next_expected_at"] is None


@pytest.mark.gen_test
async def test_our_own_delay_is_told_before_what_the_runner_sends() -> None:
    room, subscriber = await watched()
    room.age(AT, 0)
    room.heard(Heard(room.booking_id, AT + timedelta(seconds=30), "parked"))
    room.age(AT + timedelta(seconds=31), 11)
    room.age(AT + timedelta(seconds=32), 0)
    assert reasons(subscriber) == [("stale", "pipeline_delayed"), ("stale", "no_usable_points")]


@pytest.mark.gen_test
async def test_an_old_report_that_is_read_again_is_no_sign_of_life() -> None:
    room, subscriber = await watched()
    room.age(AT, 0)
    room.heard(Heard(room.booking_id, AT - timedelta(hours=1), "duplicate"))
    room.age(AT + timedelta(seconds=31), 0)
    assert reasons(subscriber) == [("stale", "no_points")]


@pytest.mark.gen_test
async def test_who_joins_later_is_told_the_same_reason() -> None:
    """It stands in the room's memory: the database knows nothing of what was only heard."""
    room, _ = await watched()
    room.heard(Heard(room.booking_id, AT + timedelta(seconds=40), "refused"))
    found = room.look(AT + timedelta(seconds=41), 0)
    assert found is not None
    assert (found.state, found.reason) == ("stale", "no_usable_points")


@pytest.mark.gen_test
async def test_an_error_in_one_subscriber_keeps_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room, healthy = await watched()
    broken = Told(room)
    broken.tell = Mock(side_effect=ZeroDivisionError("a bug"))  # type: ignore[method-assign]
    room.audience.add(broken)
    room.age(AT, 0)
    room.age(AT + timedelta(seconds=31), 0)
    assert reasons(healthy) == [("stale", "no_points")]
    assert isinstance(broken.connection, Seat)
    assert broken.connection.code() == 1011
    assert room.audience.everybody() == [healthy]
    assert broken.send_queue.metrics.live_errors.labels("viewer")._value.get() == 1
    (record,) = caplog.records
    assert record.__dict__["request_id"] == broken.connection.request_id


@pytest.mark.gen_test
async def test_another_owner_alone_closes_the_old_one_and_is_no_track_update() -> None:
    room, admin = await watched()
    state = room.state
    assert state is not None
    old, new = Told(room), Told(room)
    old.principal = Principal(state.owner_id or uuid4(), "owner", AT)
    new.principal = Principal(uuid4(), "owner", AT)
    room.audience.add(old)
    change = TrackChange(
        state.booking_id, uuid4(), "active", "to_pickup", state.runner_id, "active", "to_pickup",
        state.runner_id or uuid4(), new.principal.user_id, "epoch", AT, None,
    )  # fmt: skip
    room.audience.add(new)
    room.changed(change)
    room.tell(change)
    assert isinstance(old.connection, Seat)
    assert isinstance(new.connection, Seat)
    assert (old.connection.code(), new.connection.code()) == (4503, None)
    assert state.owner_id == new.principal.user_id
    assert (admin.told, new.told) == ([], [])
