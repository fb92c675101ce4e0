"""Waypoints of a route as columns, thousands in one value: numpy works on them at C speed."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]

# Six decimals of a degree are a tenth of a metre; more only pretends to know.
DECIMALS: Final = 6
# The columns that a format may need: which waypoint it is, where and when, and whether it is
# accepted; how fast it moved; the rest.
PLACE_AND_TIME: Final = ("position", "seq_and_verdict", "recorded_at")
MOTION: Final = (*PLACE_AND_TIME, "speed_kmh", "heading_degrees")
EVERYTHING: Final = (*MOTION, "received_at")


@dataclass(frozen=True, slots=True)
class Points:
    """A part of a route in its order. A column that was not asked for is all zeros.

    Times are microseconds since 1970. NaN: the phone did not say.
    """

    seq: Whole
    longitude: Numbers
    latitude: Numbers
    recorded_at: Whole
    speed_kmh: NDArray[np.float32]
    heading_degrees: NDArray[np.float32]
    received_at: Whole
    verdict: NDArray[np.int16]  # 0: accepted

    @property
    def count(self) -> int:
        return len(self.seq)

    def part(self, start: int, end: int) -> "Points":
        """A view: nothing is copied."""
        return self._each(lambda column: column[start:end])

    def where(self, mask: NDArray[np.bool_]) -> "Points":
        return self if mask.all() else self._each(lambda column: column[mask])

    def columns(self) -> dict[str, NDArray[Any]]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> "Points":
        return Points(*map(change, self.columns().values()))

    def rounded(self) -> tuple[Numbers, Numbers]:
        """Longitudes and latitudes as they are written: without digits that say nothing, or -0."""
        return (
            np.round(self.longitude, DECIMALS) + 0.0,
            np.round(self.latitude, DECIMALS) + 0.0,
        )


def joined(first: Points, second: Points) -> Points:
    """One after the other."""
    pairs = zip(first.columns().values(), second.columns().values(), strict=True)
    return Points(*map(np.concatenate, pairs))
