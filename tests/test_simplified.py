"""tracking.store.read.simplified: a line of fewer waypoints that is not far off."""

import math
import random
from itertools import pairwise

import pytest
import sqlalchemy as sa

from tests.running import Trip
from tests.test_read_points import slice_of
from tests.test_store_ingest import accepted, update
from tracking.domain.verdicts import Rule
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.read.simplified import Simplification, kept

Place = tuple[float, float]


def stored(engine: sa.Engine, places: list[Place], seconds: list[float] | None = None) -> Trip:
    trip = Trip()
    times = seconds or [5.0 * number for number in range(len(places))]
    store_batch(
        engine,
        [accepted(trip), *[update(trip, s, longitude=x, latitude=y)
                           for (x, y), s in zip(places, times, strict=True)]],
        known=TrackCache(rule=Rule(max_speed_kmh=1e9)),  # nothing is flagged
    )  # fmt: skip
    return trip


def simplified(engine: sa.Engine, trip: Trip, metres: float, count: int) -> list[int]:
    part = slice_of(engine, trip)
    return sorted(kept(engine, part, None, count, Simplification(metres, 60.0, False)))


def metres_off(place: Place, begin: Place, end: Place) -> float:
    """From a place to the line between two others, on a plane around the place."""
    east = math.cos(math.radians(place[1])) * 111_320
    (ax, ay), (bx, by) = (
        ((x - place[0]) * east, (y - place[1]) * 111_320) for x, y in (begin, end)
    )
    length = (bx - ax) ** 2 + (by - ay) ** 2
    share = 0.0 if not length else max(0.0, min(1.0, -(ax * (bx - ax) + ay * (by - ay)) / length))
    return math.hypot(ax + share * (bx - ax), ay + share * (by - ay))


@pytest.mark.parametrize("latitude", [0.0, -6.2, 60.0, 84.0])
@pytest.mark.parametrize("metres", [5.0, 50.0])
def test_nothing_that_is_left_out_is_further_off(
    engine: sa.Engine, latitude: float, metres: float
) -> None:
    dice = random.Random(latitude + metres)
    places, x, y = [], 106.8, latitude
    for _ in range(400):
        x, y = x + dice.gauss(1e-4, 1e-4), y + dice.gauss(0, 1e-4)
        places.append((x, y))
    trip = stored(engine, places)
    stay = [seq - 1 for seq in simplified(engine, trip, metres, 400)]
    assert (stay[0], stay[-1]) == (0, 399)
    assert len(stay) < 300
    for begin, end in pairwise(stay):
        for number in range(begin, end):
            assert metres_off(places[number], places[begin], places[end]) <= metres * 1.001


def test_both_ends_of_each_segment_stay(engine: sa.Engine) -> None:
    places = [(106.8 + number * 1e-5, -6.2) for number in range(8)]
    trip = stored(engine, places, [0, 5, 10, 100, 105, 110, 300, 400])
    assert simplified(engine, trip, 1000, 8) == [1, 3, 4, 6, 7, 8]


def test_who_stands_still_is_one_place_at_two_times(engine: sa.Engine) -> None:
    trip = stored(engine, [(106.8, -6.2)] * 6)
    assert simplified(engine, trip, 10, 6) == [1, 6]


def test_a_leg_across_the_antimeridian_is_none_around_the_world(engine: sa.Engine) -> None:
    places = [(179.99, 0.0), (179.995, 0.0), (179.999, 0.0), (-179.999, 0.0), (-179.99, 0.0)]
    trip = stored(engine, places)
    assert simplified(engine, trip, 10, 5) == [1, 3, 4, 5]


def test_at_the_poles_nothing_fails(engine: sa.Engine) -> None:
    trip = stored(engine, [(10.0, 90.0), (20.0, 90.0), (30.0, -90.0)])
    assert {1, 3} <= {*simplified(engine, trip, 10, 3)}
