"""tracking.domain.changes: what a batch changed, in the order in which viewers are told."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from tracking.domain.changes import Heard, in_order
from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint

NOW = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)


def change(booking_id: UUID, status: str) -> TrackChange:
    runner_id = uuid4()
    return TrackChange(
        booking_id, uuid4(), "active", "to_pickup", runner_id, status, "to_pickup", runner_id,
        uuid4(), "epoch", NOW, None,
    )  # fmt: skip


def waypoint(booking_id: UUID, seq: int) -> StoredWaypoint:
    return StoredWaypoint(
        booking_id, uuid4(), seq, uuid4(), 106.8, -6.2, None, None, NOW, NOW, late=False
    )


def test_a_new_runner_comes_before_his_positions_and_an_end_after_the_last_one() -> None:
    a, b = uuid4(), uuid4()
    end, start = change(a, "completed"), change(b, "active")
    one, two, three = waypoint(a, 1), waypoint(a, 2), waypoint(b, 1)
    told = {each.booking_id: each.entries for each in in_order([end, start], [one, two, three])}
    assert told == {a: [one, two, end], b: [start, three]}


def test_what_was_only_heard_comes_after_the_positions_and_before_an_end() -> None:
    booking_id = uuid4()
    end, one = change(booking_id, "completed"), waypoint(booking_id, 1)
    heard = Heard(booking_id, NOW, "late")
    assert in_order([end], [one], [heard])[0].entries == [one, heard, end]
