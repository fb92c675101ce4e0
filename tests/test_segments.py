"""tracking.domain.segments: where a route is split."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.columns import points_of
from tracking.domain.points import Points
from tracking.domain.segments import RUN, Segments, gap_of, runs

START = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)


def line(seconds: list[float]) -> Points:
    return points_of([(0.0, 0.0)] * len(seconds), seconds, START)


@pytest.mark.parametrize(
    ("median_s", "gap_s"), [(None, 60), (0.0, 60), (5.0, 60), (12.0, 60), (60.0, 300)]
)
def test_a_gap_is_longer_than_usual_and_than_a_minute(median_s: float | None, gap_s: float) -> None:
    assert gap_of(median_s) == gap_s


@given(st.lists(st.sampled_from([0.0, 5.0, 60.0, 60.000001, 90.0])), st.integers(1, 5))
def test_pages_are_numbered_as_the_whole_is(waits: list[float], page: int) -> None:
    seconds = np.cumsum(waits).tolist()
    points = line(seconds)
    segments, found = Segments(60.0), []
    for start in range(0, points.count, page):
        part = points.part(start, start + page)
        found += segments.number(part, np.ones(part.count, bool)).tolist()
    expected = [
        1 + sum(wait > 60 for wait in waits[1 : number + 1]) for number in range(len(waits))
    ]
    assert found == expected


def test_what_does_not_count_bridges_no_gap() -> None:
    counts = np.array([True, False, False, True, False])
    numbers = Segments(60.0).number(line([0, 30, 60, 90, 500]), counts)
    assert numbers.tolist() == [1, 1, 1, 2, 2]
    none = Segments(60.0).number(line([0, 500]), np.zeros(2, bool))
    assert none.tolist() == [1, 1]


def test_runs_lie_in_one_segment_and_are_short() -> None:
    numbers = np.array([1] * (2 * RUN + 1) + [2] + [3] * RUN)
    points = line([0.0] * len(numbers))
    found = [(number, run.count) for number, run in runs(points, numbers)]
    assert found == [(1, RUN), (1, RUN), (1, 1), (2, 1), (3, RUN)]
    assert [*runs(line([]), np.zeros(0, np.int64))] == []
