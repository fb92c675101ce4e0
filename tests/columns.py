"""Points for tests of what leaves as columns."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from tracking.domain.points import Points

NAN = float("nan")


def points_of(
    places: Sequence[tuple[float, float]],
    seconds: Sequence[float],
    start: datetime,
    motion: Sequence[tuple[float, float]] | None = None,
    verdicts: Sequence[int] | None = None,
) -> Points:
    """Of longitudes and latitudes, seconds since the start, km/h and degrees."""
    count = len(places)
    degrees = np.array(places, np.float64).reshape(count, 2)
    begin = (start - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    times = np.array([round((begin + second) * 1e6) for second in seconds], np.int64)
    motion = motion or [(NAN, NAN)] * count
    moved = np.array(motion, np.float32).reshape(count, 2)
    judged = np.array(verdicts or [0] * count, np.int16)
    seq = np.arange(1, count + 1)
    return Points(seq, degrees[:, 0], degrees[:, 1], times, moved[:, 0], moved[:, 1], times, judged)
