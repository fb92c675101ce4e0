"""tracking.domain.gaps: what is longer than usual is a gap, and says whether it moved."""

import pytest

from tests.simulated import Spot, at
from tracking.domain.gaps import gaps, longest_interval_s, usual_interval_s
from tracking.domain.hops import Recorded


def every(interval_s: float, count: int = 20) -> list[Recorded]:
    return [at(n, interval_s * n, Spot(10.0 * n, 0)) for n in range(count)]


@pytest.mark.parametrize(("interval_s", "longest_s"), [(5, 60), (10, 60), (12, 60), (60, 300)])
def test_a_gap_is_longer_than_a_minute_and_than_five_usual_intervals(
    interval_s: float, longest_s: float
) -> None:
    assert usual_interval_s(every(interval_s)) == interval_s
    assert longest_interval_s(every(interval_s)) == longest_s
    assert gaps(every(interval_s)) == []


def test_a_route_without_two_waypoints_has_no_interval_and_no_gap() -> None:
    for route in ([], every(5, 1)):
        assert usual_interval_s(route) is None
        assert gaps(route) == []


def test_a_gap_says_when_between_whom_how_far_and_whether_it_moved() -> None:
    assert gaps([*every(5, 10), at(10, 105, Spot(185, 0))]) == []
    route = [*every(5, 10), at(10, 105.1, Spot(185, 0)), at(11, 200, Spot(290, 0))]
    still, moved = gaps(route)
    assert (still.before_seq, still.after_seq, still.from_s, still.to_s) == (9, 10, 45, 105.1)
    assert still.metres == pytest.approx(95, abs=0.1)
    assert still.seconds == pytest.approx(60.1)
    assert not still.moved
    assert moved.moved
    assert [g.after_seq for g in gaps(route, longest_s=90)] == [11]
    assert len(gaps(route, longest_s=4)) == 11


def test_fractions_of_a_second_are_microseconds() -> None:
    """As numbers these two are 60.10000014 s apart; exports count microseconds."""
    begin, end = 1770373800.0001, 1770373860.1001
    assert end - begin > 60.1
    route = [at(1, begin, Spot(0, 0)), at(2, end, Spot(900, 0))]
    assert gaps(route, 60.1) == []
    assert [gap.seconds for gap in gaps(route, 60.099999)] == [60.1]
