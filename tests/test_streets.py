"""dev.streets: a motorcycle that could exist."""

import math
from itertools import pairwise
from random import Random

import pytest

from dev.streets import (
    BLOCKS,
    CITIES,
    METRES_PER_DEGREE,
    RUSH,
    City,
    Position,
    any_crossing,
    crossing_near,
    drive_between,
)

STEP_S = 0.25


def driven(city: City, seed: int) -> list[Position]:
    """Four positions a second from one crossing to another."""
    random = Random(seed)
    start = any_crossing(random)
    drive = drive_between(city, start, crossing_near(random, start, 6, 30), random)
    return [drive.at(index * STEP_S) for index in range(int(drive.duration_s / STEP_S) + 2)]


def metres(here: Position, there: Position) -> float:
    north = (there.latitude - here.latitude) * METRES_PER_DEGREE
    parallel = METRES_PER_DEGREE * math.cos(math.radians(here.latitude))
    return math.hypot(north, (there.longitude - here.longitude) * parallel)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("city", CITIES, ids=lambda city: city.name)
def test_movement_is_smooth_and_agrees_with_what_the_phone_says(city: City, seed: int) -> None:
    positions = driven(city, seed)
    assert positions[0].speed_kmh == positions[-1].speed_kmh == 0
    for here, there in pairwise(positions):
        said = (here.speed_kmh + there.speed_kmh) / 2 / 3.6 * STEP_S
        assert metres(here, there) == pytest.approx(said, abs=0.15)
        assert abs(there.speed_kmh - here.speed_kmh) < 2.0
        turned = math.remainder(there.heading_degrees - here.heading_degrees, 360)
        assert abs(turned) < 10


@pytest.mark.parametrize("city", CITIES, ids=lambda city: city.name)
def test_the_city_is_left_by_nobody(city: City) -> None:
    centre = Position(city.latitude, city.longitude, 0, 0)
    corner_m = BLOCKS * city.block_m * math.sqrt(2)
    for seed in range(20):
        positions = driven(city, seed)
        assert max(metres(centre, each) for each in positions) < corner_m + 5
        assert 20 < max(each.speed_kmh for each in positions) < 50


def test_traffic_is_slower_in_the_rush_hours_of_the_citys_own_time() -> None:
    hour_ns = 3_600_000_000_000
    for city in CITIES:
        paces = [city.pace((20_000 * 24 + hour - city.utc_hours) * hour_ns) for hour in range(24)]
        assert [hour for hour, pace in enumerate(paces) if pace == RUSH] == [7, 8, 17, 18]
        assert {pace for pace in paces if pace != RUSH} == {1.0}


def test_before_and_after_the_drive_it_stands_still() -> None:
    random = Random(1)
    drive = drive_between(CITIES[0], (0, 0), (4, 5), random)
    assert drive.at(-10) == drive.at(0)
    assert drive.at(math.inf) == drive.at(drive.duration_s)
