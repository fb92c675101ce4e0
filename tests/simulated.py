"""Trips of the simulator as waypoints, without services: for tests of what routes add up to.

And routes that hypothesis makes up."""

import math
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st

from dev.courses import StreetCourse
from dev.streets import METRES_PER_DEGREE
from dev.trips import Plan, Trip, trips_of
from tracking.domain.hops import Recorded

START_NS = 1_770_373_800_000_000_000  # 2026-02-06T10:30:00Z
# A phone's error lasts: so long until it is another one.
NOISE_LASTS_S = 30.0


class Spot(NamedTuple):
    """Metres on the plane around (106.8, -6.2), for tests that need no streets."""

    x: float
    y: float


def at(seq: int, at_s: float, spot: Spot) -> Recorded:
    """The waypoint there."""
    latitude = -6.2 + spot.y / METRES_PER_DEGREE
    longitude = 106.8 + spot.x / METRES_PER_DEGREE / math.cos(math.radians(-6.2))
    return Recorded(seq, at_s, longitude, latitude)


def moved(waypoint: Recorded, x: float, y: float) -> Recorded:
    """So many metres to the east and the north."""
    parallel = METRES_PER_DEGREE * math.cos(math.radians(waypoint.latitude))
    return waypoint._replace(
        longitude=waypoint.longitude + x / parallel,
        latitude=waypoint.latitude + y / METRES_PER_DEGREE,
    )


def noise(random: Random, metres: float, interval_s: float) -> Iterator[tuple[float, float]]:
    """AR(1): standard deviation on each axis; an error stays for about NOISE_LASTS_S."""
    stays = math.exp(-interval_s / NOISE_LASTS_S)
    fresh = metres * math.sqrt(1 - stays * stays)
    x, y = random.gauss(0, metres), random.gauss(0, metres)
    while True:
        yield x, y
        x, y = x * stays + random.gauss(0, fresh), y * stays + random.gauss(0, fresh)


def trips(count: int, seed: int = 1, interval_s: float = 5.0, **plan: object) -> list[Trip]:
    """One trip of each of so many runners."""
    made = Plan(seed=seed, runners=count, interval_s=interval_s, start_ns=START_NS, **plan)  # type: ignore[arg-type]
    return [next(islice(trips_of(made, runner), 1)) for runner in range(count)]


def course_of(trip: Trip) -> StreetCourse:
    """Through the streets, not along a file."""
    assert isinstance(trip.course, StreetCourse)
    return trip.course


def route_of(trip: Trip, noise_m: float = 3.0) -> list[Recorded]:
    """Its waypoints in recorded order; seconds count from the acceptance."""
    errors = noise(trip.random("error"), noise_m, trip.plan.interval_s)
    return [
        moved(Recorded(seq, seconds, position.longitude, position.latitude), *next(errors))
        for seq, (seconds, position) in enumerate(course_of(trip).positions(), 1)
    ]


def straight(count: int) -> list[Recorded]:
    """Fifty metres every five seconds."""
    return [at(n, 5.0 * n, Spot(50.0 * n, 0)) for n in range(1, count + 1)]


@st.composite
def routes(draw: st.DrawFn, most: int = 10, spread: float = 700.0) -> list[Recorded]:
    """Waypoints every five seconds (308 m are possible) in a square, some without a position."""
    count = draw(st.integers(0, most))
    steps = draw(st.lists(st.sampled_from((0.0, 1.0, 5.0, 5.0, 5.0, 60.0)),
                          min_size=count, max_size=count))  # fmt: skip
    metres = st.floats(0, spread)
    route, second = [], 0.0
    for seq, step in enumerate(steps, 1):
        second += step
        if draw(st.integers(0, 19)) == 0:
            route.append(Recorded(seq, second, 0.0, 0.0))
        else:
            route.append(at(seq, second, Spot(draw(metres), draw(metres))))
    return route


@st.composite
def returning(draw: st.DrawFn, most: int = 12) -> list[Recorded]:
    """To and fro between a few places, with silences: what stays might swallow."""
    places = st.sampled_from((0.0, 0.0, 0.0, 8.0, 40.0, 95.0, 150.0, 3000.0))
    waits = st.sampled_from((1.0, 5.0, 30.0, 60.000001, 80.3, 400.0, 2400.0))
    counts = st.sampled_from((1, 1, 4, 6))
    visits = draw(st.lists(st.tuples(waits, places, st.floats(-6, 6), counts), max_size=most))
    route: list[Recorded] = []
    second = START_NS / 1e9
    for wait, east, north, count in visits:
        for n in range(count):
            second = round(second + (5.0 if n else wait), 6)
            route.append(at(len(route) + 1, second, Spot(east, north)))
    return route
