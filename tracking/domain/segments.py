"""Where a route is split: nobody recorded what was between the two sides of a gap."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracking.domain.gaps import LEAST_GAP_S, USUAL_INTERVALS
from tracking.domain.points import Points, Whole

# A run of so many points is formatted by a few calls of C that hold the GIL for 0.5 to 4 ms.
RUN: Final = 2_000


def gap_of(median_s: float | None) -> float:
    """Above so many seconds between two waypoints there is a gap, by the track's usual interval."""
    return max(LEAST_GAP_S, USUAL_INTERVALS * (median_s or 0.0))


class Segments:
    """Numbers the waypoints of one route by segment, from 1, while its pages come."""

    def __init__(self, gap_s: float) -> None:
        self._gap = round(gap_s * 1_000_000)
        self._number = 1
        self._last: int | None = None

    def number(self, points: Points, counts: NDArray[np.bool_]) -> Whole:
        """Each point's segment. Those that don't count split nothing: theirs is the one before."""
        times = points.recorded_at[counts]
        before = times[:1] if self._last is None else np.array([self._last])
        begins = np.zeros(points.count, np.int64)
        begins[counts] = np.diff(times, prepend=before[: len(times)]) > self._gap
        numbers = self._number + np.cumsum(begins)
        if len(times):
            self._number, self._last = int(numbers[-1]), int(times[-1])
        return numbers


def runs(points: Points, numbers: Whole) -> Iterator[tuple[int, Points]]:
    """Pieces of at most RUN points that lie in one segment, with its number."""
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), points.count]
    for start, end in pairwise(bounds):
        for at in range(start, end, RUN):
            yield int(numbers[at]), points.part(at, min(at + RUN, end))
