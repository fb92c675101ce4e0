"""Where a route stays in one place. Pure functions of the waypoints in recorded order.

A stay is the longest run of waypoints within a radius of its first one, if it lasts long enough:
the stay point of Li et al. 2008. It is found along time, never by clustering in space, which would
make one visit out of a walk around the block. No reported speed is needed: it may be unknown.
A still gap lies inside a stay: nobody was elsewhere long enough to lose anything by it. A gap that
moved ends it, even if the route is back in the same place: nobody knows where it was meanwhile.
"""

from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from tracking.domain.gaps import RecordingGap, gaps, parts_between
from tracking.domain.hops import Recorded, is_within, metres_between

# Standing: a phone's error is 4 to 10 m; a red light lasts longer than 10 s.
STANDING_M: Final = 15.0
STANDING_S: Final = 10.0
# Who gets on faster walks: 15 m in 10 s alone would be 5.4 km/h, and two thirds of a walk standing.
# At 2 km/h instead, 14 of 73 s a simulated trip stands are lost with an error of 6 m, not 1.
WALKING_KMH: Final = 3.6
# A stop: Google's fleet tools say 20 m for 2 min, Dawarich 50 m for 3 min, Traccar 200 m for 3 min.
STOP_M: Final = 50.0
STOP_S: Final = 120.0


class Stay(Struct, frozen=True):
    """From its first to its last waypoint; seconds since 1970. The place is the median."""

    first_seq: int
    last_seq: int
    from_s: float
    to_s: float
    longitude: float
    latitude: float

    @property
    def seconds(self) -> float:
        """How long it is, to the microsecond."""
        return round(self.to_s - self.from_s, 6)


def standing(route: Sequence[Recorded], found: Sequence[RecordingGap] | None = None) -> list[Stay]:
    """What counts as standing, red lights among it."""
    return stays(route, STANDING_M, STANDING_S, found)


def stops(route: Sequence[Recorded], found: Sequence[RecordingGap] | None = None) -> list[Stay]:
    """What a person would call a stop."""
    return stays(route, STOP_M, STOP_S, found)


def stays(
    route: Sequence[Recorded],
    radius_m: float,
    least_s: float,
    found: Sequence[RecordingGap] | None = None,
) -> list[Stay]:
    """All stays, one after another, in the order of time; none has a gap that moved in it.

    `found`: the gaps of the route, if they are known already.
    """
    parts = parts_between(route, gaps(route) if found is None else found)
    return [stay for part in parts for stay in _unbroken(part, radius_m, least_s)]


def _unbroken(route: Sequence[Recorded], radius_m: float, least_s: float) -> list[Stay]:
    """A phone's error may end a stay and begin the next one in the same place: such are one."""
    runs: list[tuple[int, int]] = []
    begin, before = 0, (0, 0)
    while begin < len(route):
        end = _end(route, begin, radius_m)
        if not _is_stay(route[begin], route[end - 1], least_s):
            begin += 1
            continue
        if runs and _is_same_stay(route, before, (begin, end), radius_m):
            runs[-1] = runs[-1][0], end
        else:
            runs.append((begin, end))
        before = begin, end
        begin = end
    return [_stay(route[begin:end]) for begin, end in runs]


def _end(route: Sequence[Recorded], begin: int, radius_m: float) -> int:
    """The index of the first waypoint outside."""
    first = route[begin]
    for index in range(begin + 1, len(route)):
        if not is_within(first, route[index], radius_m):
            return index
    return len(route)


def _is_stay(first: Recorded, last: Recorded, least_s: float) -> bool:
    seconds = last.at_s - first.at_s
    return seconds >= least_s and is_within(first, last, WALKING_KMH / 3.6 * seconds)


def _is_same_stay(
    route: Sequence[Recorded], one: tuple[int, int], other: tuple[int, int], radius_m: float
) -> bool:
    """At most one waypoint lies between them, and their medians are half a radius apart."""
    if other[0] - one[1] > 1:
        return False
    longitude, latitude = _median(route[slice(*one)])
    place = Recorded(0, 0.0, *_median(route[slice(*other)]))
    return metres_between(longitude, latitude, place) <= radius_m / 2


def _median(waypoints: Sequence[Recorded]) -> tuple[float, float]:
    """Of the longitudes, which are counted from the first one, and of the latitudes."""
    base = waypoints[0].longitude
    east = median((w.longitude - base + 180.0) % 360.0 - 180.0 for w in waypoints)
    longitude = (base + east + 180.0) % 360.0 - 180.0
    return longitude, median(w.latitude for w in waypoints)


def _stay(waypoints: Sequence[Recorded]) -> Stay:
    first, last = waypoints[0], waypoints[-1]
    return Stay(first.seq, last.seq, first.at_s, last.at_s, *_median(waypoints))
