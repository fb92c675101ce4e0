"""tracking.live.views and tracking.domain.shares: what a share link shows of a trip, and when."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.shared_viewer import SharedViewer
from tests.viewing import (
    NOW,
    Joined,
    Seat,
    Stage,
    StoredTrip,
    Wire,
    active_state,
    seqs,
    stored_waypoint,
)
from tracking.domain.changes import in_order
from tracking.domain.shares import NEVER, OpenShare, shown_from
from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.live import broadcast
from tracking.live.views import EVERYTHING, FROM_PICKUP, SHARED, view_of
from tracking.wire import shared
from tracking.wire.messages import LocationUpdateMessage, Message

PICKED_UP = NOW + timedelta(seconds=3)


def change(**fields: Any) -> TrackChange:
    runner_id = uuid4()
    made = TrackChange(
        uuid4(), uuid4(), "active", "to_pickup", runner_id, "active", "to_pickup", runner_id,
        uuid4(), "epoch", NOW, None,
    )  # fmt: skip
    return replace(made, **fields)


def test_what_is_shown_begins_with_the_pickup_or_never() -> None:
    assert shown_from("to_dropoff", PICKED_UP) == PICKED_UP
    assert shown_from("done", PICKED_UP) == PICKED_UP
    assert shown_from("done", None) == NEVER
    assert shown_from("to_pickup", PICKED_UP) == NEVER  # another runner has it now
    assert shown_from(None, None) == NEVER


def test_only_who_waits_is_told_nothing_of_the_numbering() -> None:
    state = active_state(7)
    assert [view.epoch(state) for view in (EVERYTHING, SHARED, FROM_PICKUP)] == [
        "epoch", "epoch", None,
    ]  # fmt: skip
    assert [view.is_waiting(state) for view in (EVERYTHING, SHARED, FROM_PICKUP)] == [
        False, False, True,
    ]  # fmt: skip
    assert FROM_PICKUP.is_waiting(None)
    assert (SHARED.epoch(None), SHARED.is_waiting(None)) == (None, False)


def test_another_pickup_is_another_epoch() -> None:
    state = active_state(7)
    state.phase, state.picked_up_at = "to_dropoff", PICKED_UP
    first = FROM_PICKUP.epoch(state)
    state.picked_up_at += timedelta(microseconds=1)
    assert first is not None
    assert first.startswith("epoch-")
    assert FROM_PICKUP.epoch(state) not in (first, None)
    assert SHARED.epoch(state) == "epoch"


def test_what_concerns_only_people_is_no_news() -> None:
    other = change(runner_id=uuid4(), owner_id=uuid4())
    assert EVERYTHING.track_update(other) is not None
    assert SHARED.track_update(other) is None
    assert FROM_PICKUP.track_update(other) is None
    later = change(old_phase="to_dropoff", phase="to_dropoff", old_picked_up_at=NOW,
                   picked_up_at=PICKED_UP)  # fmt: skip
    assert EVERYTHING.track_update(later) is None
    assert SHARED.track_update(later) is None
    assert FROM_PICKUP.track_update(later) is not None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"phase": "to_dropoff", "picked_up_at": PICKED_UP}, True),
        ({"phase": "done", "status": "completed"}, True),  # it was never picked up
        ({"old_phase": "to_dropoff", "phase": "done", "old_picked_up_at": PICKED_UP,
          "picked_up_at": PICKED_UP}, False),
        ({"old_phase": "to_dropoff", "phase": "to_dropoff", "old_picked_up_at": PICKED_UP,
          "picked_up_at": NOW}, True),
        ({"old_phase": "to_dropoff", "old_picked_up_at": PICKED_UP}, True),  # another runner's
    ],
)  # fmt: skip
def test_it_begins_anew_when_other_waypoints_are_shown(
    fields: dict[str, Any], expected: bool
) -> None:
    assert FROM_PICKUP.begins_anew(change(**fields)) is expected
    assert not SHARED.begins_anew(change(**fields))
    assert not EVERYTHING.begins_anew(change(**fields))


@pytest.fixture
def wires(io_loop: object) -> Iterator[list[Wire]]:
    made = [Wire(small=False) for _ in range(24)]
    yield made
    for each in made:
        each.close()


async def look(stage: Stage, wire: Wire, *, from_pickup: bool = False) -> SharedViewer:
    room = await stage.enter()
    until = datetime.now(UTC) + timedelta(hours=1)
    share = OpenShare(uuid4(), stage.booking_id, from_pickup, until)
    viewer = SharedViewer(Seat(stage.services), room, share, wire.send_queue, JoinOptions())
    stage.rooms.join(viewer.subscriber)
    viewer.subscriber.begin()
    await Joined(stage, wire, Seat(stage.services), viewer).settled()
    return viewer


@pytest.mark.gen_test
async def test_a_position_is_encoded_once_more_for_all_links_together(
    engine: sa.Engine, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = StoredTrip(engine)
    trip.add(1)
    stage = trip.stage()
    stage.state.phase = "to_dropoff"
    stage.state.picked_up_at = NOW - timedelta(days=365)
    encoded: list[str] = []

    def counting(name: str) -> None:
        encode = getattr(broadcast, name)

        def count(waypoint: StoredWaypoint) -> Message:
            encoded.append(name)
            message: Message = encode(waypoint)
            return message

        monkeypatch.setattr(broadcast, name, count)

    counting("location_update")
    counting("shared_location_update")
    await Joined.join(stage, wires[0])
    for number, wire in enumerate(wires[1:]):
        await look(stage, wire, from_pickup=bool(number % 2))
    for seq in (2, 3):
        await stage.broadcast.publish(in_order([], [stage.waypoint(seq)]))
    assert encoded == ["location_update", "shared_location_update"] * 2
    for wire in wires[1:]:
        messages = await wire.messages(until=b'"seq":3')
        assert [m["seq"] for m in messages if m["type"] == "location_update"] == [2, 3]
    assert stage.room is not None
    sizes = [audience.sizes() for _, audience in stage.room.audiences()]
    assert sizes == [([], 1), ([12], 0), ([11], 0)]


@pytest.mark.gen_test
async def test_a_room_goes_when_the_last_link_has_gone(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    trip = StoredTrip(engine)
    stage = trip.stage()
    viewers = [await look(stage, wire, from_pickup=True) for wire in wires[:2]]
    assert (len(stage.rooms), stage.rooms.subscribers) == (1, 2)
    assert stage.services.link_viewers.count(viewers[0].share_id) == 1
    for viewer in viewers:
        viewer.leave()
    assert (len(stage.rooms), stage.rooms.subscribers) == (0, 0)
    assert stage.services.link_viewers.share_ids() == []


@pytest.mark.gen_test
async def test_a_position_from_before_the_pickup_is_only_a_number(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    """The clocks of two apps: it moves the marker, but not for this link."""
    trip = StoredTrip(engine)
    stage = trip.stage()
    stage.state.phase, stage.state.picked_up_at = "to_dropoff", PICKED_UP
    await look(stage, wires[0], from_pickup=True)
    await look(stage, wires[1])
    for seq in (1, 2, 3):  # recorded so many seconds after NOW
        await stage.broadcast.publish(in_order([], [stage.waypoint(seq)]))
    _, *told = await wires[0].messages(until=b'"seq":3')
    covered = [(m["after_seq"], m["through_seq"], m["points"]) for m in told[:2]]
    assert covered == [(0, 1, []), (1, 2, [])]
    assert list(seqs(told)) == [3]
    assert list(seqs(await wires[1].messages(until=b'"seq":3'))) == [1, 2, 3]


def test_a_shared_position_is_the_position_without_its_runner() -> None:
    fields = set(LocationUpdateMessage.__struct_fields__) - {"runner_id"}
    assert set(shared.SharedPosition.__struct_fields__) == fields
    assert view_of(True) is FROM_PICKUP
    assert view_of(False) is SHARED
    assert b"runner" not in shared.shared_location_update(stored_waypoint(uuid4(), 1)).frame
