"""Where nothing was recorded. Pure functions of the waypoints in recorded order."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from msgspec import Struct

from tracking.domain.hops import Recorded, is_within, metres

# A gap is longer than a minute and than five usual intervals. (Google's fleet tools take the
# shorter one of 60 s and ten intervals: a phone that reports each minute would have gaps only.)
LEAST_GAP_S: Final = 60.0
USUAL_INTERVALS: Final = 5.0
# Within so many metres nobody needs to know which way it went: the route lost nothing.
STILL_M: Final = 100.0


class RecordingGap(Struct, frozen=True):
    """Between two neighbours of a route; seconds since 1970. If it did not move it is *still*."""

    before_seq: int
    after_seq: int
    from_s: float
    to_s: float
    metres: float
    moved: bool

    @property
    def seconds(self) -> float:
        """How long it is, to the microsecond."""
        return round(self.to_s - self.from_s, 6)


def usual_interval_s(route: Sequence[Recorded]) -> float | None:
    """The median of the seconds between neighbours; None of a route without any."""
    return median(_seconds(a, b) for a, b in pairwise(route)) if len(route) > 1 else None


def _seconds(one: Recorded, other: Recorded) -> float:
    """To the microsecond: at a limit, what floats lose would decide."""
    return round(other.at_s - one.at_s, 6)


def longest_interval_s(route: Sequence[Recorded]) -> float:
    """What is longer than this is a gap."""
    return max(LEAST_GAP_S, USUAL_INTERVALS * (usual_interval_s(route) or 0.0))


def gaps(route: Sequence[Recorded], longest_s: float | None = None) -> list[RecordingGap]:
    """All gaps in the order of time; `longest_s` in place of `longest_interval_s`."""
    if longest_s is None:
        longest_s = longest_interval_s(route)
    return [
        RecordingGap(a.seq, b.seq, a.at_s, b.at_s, metres(a, b), moved=not is_within(a, b, STILL_M))
        for a, b in pairwise(route)
        if _seconds(a, b) > longest_s
    ]


def parts_between(
    route: Sequence[Recorded], found: Iterable[RecordingGap]
) -> list[Sequence[Recorded]]:
    """The route cut at those of its gaps that moved."""
    after = {gap.after_seq for gap in found if gap.moved}
    cuts = [0, *(n for n, w in enumerate(route) if w.seq in after), len(route)] if after else []
    return [route[a:b] for a, b in pairwise(cuts)] if cuts else [route]
