"""What a route adds up to, and how good its record is. Pure functions of route and trip.

Each leg between two neighbours is moving, standing or unknown, so that the seconds of the three add
up to what was recorded. Only waypoints whose
verdict is OK count, except in `reported_distance_m` and the counts.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from tracking.domain.events import Point
from tracking.domain.gaps import RecordingGap, gaps, usual_interval_s
from tracking.domain.hops import Recorded, metres_between
from tracking.domain.routes import lengths_mm
from tracking.domain.stays import Stay, standing, stops
from tracking.domain.verdicts import Verdict

# A report that took longer than three of freshness's was no live report.
LATE_S: Final = 60.0
# The middle of a stop within so many metres of pickup or dropoff is at it (as an arrival).
AT_M: Final = 60.0

End: TypeAlias = Literal["pickup", "dropoff"]
_Kind: TypeAlias = Literal["moving", "standing", "unknown"]


class JudgedWaypoint(NamedTuple):
    """A waypoint of the route with what is known of it; seconds since 1970.

    `corrected`: the phone's clock was wrong, so it counts at another time than it said.
    """

    seq: int
    at_s: float
    longitude: float
    latitude: float
    received_at_s: float
    speed_kmh: float | None
    corrected: bool
    verdict: Verdict


class TripFacts(Struct, frozen=True):
    """Seconds since 1970. `left_route`: waypoints that are stored and count for no route."""

    started_at_s: float
    completed_at_s: float | None
    pickup: Point | None = None
    dropoff: Point | None = None
    left_route: int = 0


class Stop(Struct, frozen=True):
    """A stay of two minutes, and at which end of the trip it was."""

    stay: Stay
    at: End | None


class Times(Struct, frozen=True):
    """Where the seconds went. duration_s: from the trip's start to its end, or to the last waypoint
    of one that has not ended, flagged or not. recorded_s: from the first to the last one that
    counts; the sum of the other three, all in whole microseconds. A still gap is standing; a gap
    that moved is unknown.
    """

    duration_s: float
    recorded_s: float
    moving_s: float
    standing_s: float
    unknown_s: float


class Speeds(Struct, frozen=True):
    """km/h; None if nobody knows. The average is over moving_s, by positions on the ellipsoid;
    the others are the phone's. Of reported speeds one in a hundred may be nonsense: p99.
    """

    average_kmh: float | None
    max_kmh: float | None
    p99_kmh: float | None


class Record(Struct, frozen=True):
    """How complete and how timely. coverage: 1 - (gaps that moved, and what is missing before the
    first and after the last waypoint) / duration_s, as trackintel's temporal tracking quality;
    None of a trip without duration. delay: received - recorded time, without clocks ahead.
    """

    waypoints: int
    flagged: dict[str, int]  # by verdict
    late: int
    clock_corrected: int
    left_route: int
    coverage: float | None
    interval_p50_s: float | None
    delay_p50_s: float | None
    delay_p95_s: float | None


class Summary(Struct, frozen=True):
    """Distances in metres on the ellipsoid: of the accepted waypoints, and as reported."""

    distance_m: float
    reported_distance_m: float
    times: Times
    speeds: Speeds
    stops: tuple[Stop, ...]
    gaps: tuple[RecordingGap, ...]
    record: Record

    @property
    def longest_gap_s(self) -> float | None:
        """None of a route without gaps."""
        return max((gap.seconds for gap in self.gaps), default=None)


def summary_of(route: Sequence[JudgedWaypoint], trip: TripFacts) -> Summary:
    """`route`: its waypoints in recorded order, the flagged ones among them."""
    accepted = [w for w in route if w.verdict is Verdict.OK]
    places = [Recorded(*w[:4]) for w in accepted]
    found = gaps(places)
    kinds = _kinds(places, found, standing(places, found))
    newest_s = route[-1].at_s if route else trip.started_at_s
    ended_s = newest_s if trip.completed_at_s is None else trip.completed_at_s
    times = _times(places, kinds, max(0.0, ended_s - trip.started_at_s))
    chains = _moving(places, kinds)
    distance, reported, *moving = lengths_mm([accepted, route, *chains])
    return Summary(
        distance / 1000,
        reported / 1000,
        times,
        _speeds(accepted, sum(moving) / 1000, times.moving_s),
        tuple(Stop(stay, _end_at(stay, trip)) for stay in stops(places, found)),
        tuple(found),
        _record(route, places, times, trip),
    )


def _kinds(
    route: Sequence[Recorded], found: Iterable[RecordingGap], stays: Iterable[Stay]
) -> list[_Kind]:
    """Of each leg. No stay has a gap that moved in it, and still gaps are standing anyway."""
    silent: dict[int, _Kind] = {
        gap.after_seq: "unknown" if gap.moved else "standing" for gap in found
    }
    begins = {stay.first_seq: stay.last_seq for stay in stays}
    kinds: list[_Kind] = []
    last: int | None = None  # of the stay that the leg is in
    for one, other in pairwise(route):
        last = begins.get(one.seq, None if one.seq == last else last)
        kinds.append(silent.get(other.seq, "moving" if last is None else "standing"))
    return kinds


def _times(route: Sequence[Recorded], kinds: Sequence[_Kind], duration_s: float) -> Times:
    at_us = [round(waypoint.at_s * 1e6) for waypoint in route]
    spent_us: Counter[_Kind] = Counter()
    for kind, (begin_us, end_us) in zip(kinds, pairwise(at_us), strict=True):
        spent_us[kind] += end_us - begin_us
    recorded_us = at_us[-1] - at_us[0] if at_us else 0
    return Times(
        duration_s,
        recorded_us / 1e6,
        spent_us["moving"] / 1e6,
        spent_us["standing"] / 1e6,
        spent_us["unknown"] / 1e6,
    )


def _moving(route: Sequence[Recorded], kinds: Sequence[_Kind]) -> list[list[Recorded]]:
    """The parts of the route whose legs are moving."""
    chains: list[list[Recorded]] = []
    before: _Kind | None = None
    for kind, (one, other) in zip(kinds, pairwise(route), strict=True):
        if kind == "moving":
            if before != "moving":
                chains.append([one])
            chains[-1].append(other)
        before = kind
    return chains


def _speeds(accepted: Sequence[JudgedWaypoint], moved_m: float, moving_s: float) -> Speeds:
    said = sorted(w.speed_kmh for w in accepted if w.speed_kmh is not None)
    average = moved_m / moving_s * 3.6 if moving_s > 0 else None
    return Speeds(average, said[-1] if said else None, _quantile(said, 0.99))


def _end_at(stay: Stay, trip: TripFacts) -> End | None:
    """The nearer one, if both are near."""
    near: list[tuple[float, End]] = []
    place = Recorded(0, 0.0, stay.longitude, stay.latitude)
    if trip.pickup is not None:
        near.append((metres_between(*trip.pickup, place), "pickup"))
    if trip.dropoff is not None:
        near.append((metres_between(*trip.dropoff, place), "dropoff"))
    metres, end = min(near, default=(math.inf, None))
    return end if metres <= AT_M else None


def _record(
    route: Sequence[JudgedWaypoint], places: Sequence[Recorded], times: Times, trip: TripFacts
) -> Record:
    delays = sorted(max(0.0, w.received_at_s - w.at_s) for w in route)
    flagged = Counter(w.verdict.name.lower() for w in route if w.verdict is not Verdict.OK)
    return Record(
        len(route),
        dict(sorted(flagged.items())),
        sum(delay > LATE_S for delay in delays),
        sum(w.corrected for w in route),
        trip.left_route,
        _coverage(places, times, trip),
        usual_interval_s(places),
        _quantile(delays, 0.5),
        _quantile(delays, 0.95),
    )


def _coverage(route: Sequence[Recorded], times: Times, trip: TripFacts) -> float | None:
    if times.duration_s <= 0:
        return None
    if not route:
        return 0.0
    first_s, last_s = route[0].at_s, route[-1].at_s
    ended_s = trip.started_at_s + times.duration_s
    missing = max(0.0, first_s - trip.started_at_s) + max(0.0, ended_s - last_s)
    return max(0.0, 1 - (times.unknown_s + missing) / times.duration_s)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank: a value that was seen."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
