"""dev.street_map: the streets of the demo's map are those that its pets walk along."""

from random import Random

import pytest

from dev.street_map import street_map
from dev.streets import CITIES, METRES_PER_DEGREE, City, any_crossing, crossing_near, drive_between

KINDS = {"street", "main", "park", "water", "building"}


def test_it_is_the_same_each_time_and_knows_every_kind() -> None:
    found = street_map()
    assert found == street_map()
    assert {feature["properties"]["kind"] for feature in found["features"]} == KINDS


@pytest.mark.parametrize("city", CITIES, ids=lambda city: city.name)
def test_a_drive_stays_on_the_streets(city: City) -> None:
    """A turn cuts its corner by some metres, no more."""
    lines = [
        feature["geometry"]["coordinates"]
        for feature in street_map()["features"]
        if feature["properties"]["kind"] in ("street", "main")
    ]
    random = Random(7)
    start = any_crossing(random)
    drive = drive_between(city, start, crossing_near(random, start, 6, 12), random)
    for second in range(int(drive.duration_s)):
        here = drive.at(second)
        point = here.longitude * METRES_PER_DEGREE, here.latitude * METRES_PER_DEGREE
        assert min(off(point, begin, end) for begin, end in lines) < 10


def off(point: tuple[float, float], begin: list[float], end: list[float]) -> float:
    """Metres from a street; near the equator a degree is as long in both directions."""
    (x, y), (ax, ay), (bx, by) = point, scaled(begin), scaled(end)
    along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
    along = min(max(along, 0.0), 1.0)
    dx, dy = x - ax - along * (bx - ax), y - ay - along * (by - ay)
    return float((dx * dx + dy * dy) ** 0.5)


def scaled(position: list[float]) -> tuple[float, float]:
    return position[0] * METRES_PER_DEGREE, position[1] * METRES_PER_DEGREE
