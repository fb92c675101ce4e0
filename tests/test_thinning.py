"""workers.thinning: which positions a round sends."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.running import Trip
from tracking.store.outbox.watermarks import Published, UnsentTrack, UnsentWaypoint
from workers.thinning import fair_shares, pass_gone, spans, thinned

START = Trip().start


def test_shares_are_fair_and_nothing_is_left_unused() -> None:
    assert fair_shares([], 10) == []
    assert fair_shares([100], 10) == [10]
    assert fair_shares([100_000, 3, 1], 10) == [6, 3, 1]
    assert fair_shares([5, 5, 5], 9) == [3, 3, 3]
    assert fair_shares([2, 2], 10) == [2, 2]
    assert fair_shares([7] * 10, 3) == [0] * 7 + [1] * 3


def unsent_track(**changes: Any) -> UnsentTrack:
    track_id = UUID(int=1)
    fields: dict[str, Any] = {
        "id": track_id, "track_id": str(track_id), "booking_id": "b", "owner_id": None,
        "epoch": "e",
        "started_at": START, "published_seq": 0, "published_at": None, "last_seq": 100,
        "newest_seq": None,
    }  # fmt: skip
    return UnsentTrack(**{**fields, **changes})


def waypoint(seq: int, second: float, in_route: bool = True) -> UnsentWaypoint:
    at = START + timedelta(seconds=second)
    return UnsentWaypoint(str(UUID(int=1)), seq, "r", 1.0, 2.0, None, None, at, at, in_route)


def going(seconds: Sequence[float], interval: float, **changes: Any) -> list[int]:
    track = unsent_track(**changes)
    waypoints = [waypoint(n, s) for n, s in enumerate(seconds, track.published_seq + 1)]
    found, published = thinned(waypoints, {track.track_id: track}, timedelta(seconds=interval))
    assert published[track.track_id].seq == track.published_seq + len(seconds)
    return [w.seq for w in found]


def test_thinning_keeps_what_is_an_interval_after_all_before() -> None:
    assert going([0, 5, 10, 15, 20], 0) == [1, 2, 3, 4, 5]
    assert going([0, 5, 10, 15, 20], 10) == [1, 3, 5]
    assert going([0, 9, 10, 19, 21], 10) == [1, 3, 5]
    late = [0, 100, 50, 60, 105, 110]
    assert going(late, 10) == [1, 2, 6]
    assert going(late, 0) == [1, 2, 3, 4, 5, 6]


def test_rows_that_are_gone_hold_nothing_back() -> None:
    """Of a runner who was erased: all of a share, or its end."""
    track = unsent_track(published_seq=3, published_at=START, last_seq=9)
    out: dict[str, Published] = {}
    pass_gone([track], [0], out)
    assert out == {}
    pass_gone([track], [6], out)
    assert out == {track.track_id: Published(9, START, START)}
    found, out = thinned([waypoint(5, 50)], {track.track_id: track}, timedelta(0))
    pass_gone([track], [6], out)
    assert [w.seq for w in found] == [5]
    far = out[track.track_id]
    assert (far.seq, far.at) == (9, START + timedelta(seconds=50))


def test_the_newest_position_of_an_ended_trip_goes_out_once() -> None:
    assert going([0, 5, 8, 3], 10, newest_seq=3) == [1, 3]
    out = START + timedelta(seconds=8)
    assert going([3], 10, newest_seq=3, published_seq=3, published_at=out) == []
    # Thinned away while nobody knew that it would be the last.
    before = unsent_track(newest_seq=3, published_seq=4, published_at=START, last_seq=4)
    assert spans([before], [0]) == [(before.id, 3, 3, START)]
    found, published = thinned([waypoint(3, 8)], {before.track_id: before}, timedelta(seconds=10))
    assert [w.seq for w in found] == [3]
    assert (published[before.track_id].seq, published[before.track_id].at) == (4, out)


@pytest.mark.parametrize("cut", range(1, 8))
def test_thinning_does_not_depend_on_where_a_round_ends(cut: int) -> None:
    seconds = [0.0, 4, 11, 2, 13, 22, 30, 31]
    whole = going(seconds, 10)
    track = unsent_track()
    waypoints = [waypoint(n, s) for n, s in enumerate(seconds, 1)]
    ten = timedelta(seconds=10)
    first, published = thinned(waypoints[:cut], {track.track_id: track}, ten)
    far = published[track.track_id]
    later = unsent_track(published_seq=far.seq, published_at=far.at)
    second, _ = thinned(waypoints[cut:], {track.track_id: later}, ten)
    assert [w.seq for w in first + second] == whole


@pytest.mark.parametrize("interval", [0, 10])
def test_what_left_the_route_is_passed_over_and_thins_nothing(interval: float) -> None:
    track = unsent_track(newest_seq=4)
    waypoints = [waypoint(1, 0), waypoint(2, 100, False), waypoint(3, 20), waypoint(4, 25)]
    found, published = thinned(waypoints, {track.track_id: track}, timedelta(seconds=interval))
    assert [w.seq for w in found] == [1, 3, 4]
    far = published[track.track_id]
    assert (far.seq, far.at) == (4, START + timedelta(seconds=25))
