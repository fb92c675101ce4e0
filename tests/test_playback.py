"""tracking.domain.playback: the time on show, and what one message shows."""

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.viewing import AT, stored_waypoint
from tracking.domain.playback import Arrivals, Playback, Shown, as_recorded
from tracking.domain.waypoints import StoredWaypoint

BOOKING = uuid4()


def later(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_time_passes_as_fast_as_it_should() -> None:
    playback = Playback(AT, 10, 100.0)
    assert playback.at(100.5) == AT + later(5)
    assert playback.wait_s(AT + later(20), 100.5) == pytest.approx(1.5)
    playback.set_speed(0.25, 101.0)
    assert playback.at(101.0) == AT + later(10)
    assert playback.at(105.0) == AT + later(11)


def test_while_paused_nothing_passes_and_nothing_is_due() -> None:
    playback = Playback(AT, 1, 0.0)
    playback.pause(3.0)
    assert playback.at(50.0) == AT + later(3)
    assert playback.wait_s(AT + later(4), 50.0) is None
    assert playback.shorten(AT + later(4_000), 50.0) is None
    playback.set_speed(2, 50.0)
    playback.seek(AT + later(1), 51.0)
    assert playback.at(60.0) == AT + later(1)
    playback.resume(60.0)
    assert playback.at(61.0) == AT + later(3)


@pytest.mark.parametrize(
    ("speed", "seconds", "is_shortened"),
    [
        (1, 10.0, False), (1, 10.1, True),
        (0.25, 9.0, False),  # 36 s of slow motion are what was asked for
        (60, 590.0, False), (60, 610.0, True),  # 9.8 and 10.2 s
    ],
)  # fmt: skip
def test_a_silence_that_is_long_in_both_times_is_shortened(
    speed: float, seconds: float, is_shortened: bool
) -> None:
    playback, due = Playback(AT, speed, 0.0), AT + later(seconds)
    silence = playback.shorten(due, 0.0)
    if is_shortened:
        assert silence == (AT, due, 2.0)
        assert playback.wait_s(due, 0.0) == pytest.approx(2.0)
        assert playback.shorten(due, 0.5) is None  # told once
    else:
        assert silence is None
        assert playback.wait_s(due, 0.0) == pytest.approx(seconds / speed)


def test_a_lag_is_not_made_up_for() -> None:
    playback = Playback(AT, 10, 0.0)
    playback.hold(AT + later(10), 1.5)  # half a second late
    assert playback.at(1.5) == AT + later(15)
    playback.hold(AT + later(20), 8.0)
    assert playback.at(8.0) == AT + later(20)


def test_as_recorded_each_is_a_position_at_its_time() -> None:
    waypoints = [stored_waypoint(BOOKING, seq) for seq in (1, 2)]
    assert [*as_recorded(waypoints)] == [
        Shown(AT + later(1), [waypoints[0]]),
        Shown(AT + later(2), [waypoints[1]]),
    ]


def came(seq: int, recorded_s: float, received_s: float) -> StoredWaypoint:
    base = stored_waypoint(BOOKING, seq)
    times = {"recorded_at": AT + later(recorded_s), "received_at": AT + later(received_s)}
    return StoredWaypoint(**({n: getattr(base, n) for n in base.__struct_fields__} | times))


def shapes(arrivals: Arrivals, *waypoints: StoredWaypoint) -> list[tuple[list[int], bool, float]]:
    return [
        ([each.seq for each in shown.waypoints], shown.is_late, (shown.due - AT).total_seconds())
        for shown in arrivals.of(waypoints)
    ]


def test_as_they_arrived_late_ones_move_no_marker_and_come_together() -> None:
    first = [came(1, 10, 10), came(2, 5, 11), came(3, 6, 11.5), came(4, 7, 14), came(5, 12, 15)]
    arrivals = Arrivals(None)
    assert shapes(arrivals, *first) == [
        ([1], False, 10), ([2, 3], True, 11), ([4], True, 14), ([5], False, 15),
    ]  # fmt: skip
    # The next page knows where the marker stands.
    assert shapes(arrivals, came(6, 11, 16)) == [([6], True, 16)]
    assert shapes(Arrivals(first[4]), came(6, 11, 16)) == [([6], True, 16)]


def test_as_they_arrived_the_time_never_goes_back() -> None:
    """A batch is numbered by the time of recording, whatever was received first."""
    assert shapes(Arrivals(None), came(1, 1, 9), came(2, 2, 8), came(3, 3, 10)) == [
        ([1], False, 9), ([2], False, 9), ([3], False, 10),
    ]  # fmt: skip
