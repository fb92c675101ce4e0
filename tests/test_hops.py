"""tracking.domain.hops: the short cuts say what the great circle says."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracking.domain.hops import Recorded, is_within, metres, recorded
from tracking.domain.routes import WGS84

PLACES = st.builds(
    Recorded, st.just(1), st.just(0.0), st.floats(-180, 180), st.floats(-90, 90)
)  # fmt: skip


def near(place: Recorded, east: float, north: float) -> Recorded:
    """Degrees away, and still on the globe."""
    latitude = max(-90.0, min(90.0, place.latitude + north))
    return place._replace(longitude=place.longitude + east, latitude=latitude)


@given(PLACES, PLACES)
def test_metres_are_those_of_the_ellipsoid_within_a_hundredth(
    one: Recorded, other: Recorded
) -> None:
    exact = WGS84.inv(one.longitude, one.latitude, other.longitude, other.latitude)[2]
    assert metres(one, other) == pytest.approx(exact, rel=0.006, abs=0.01)
    assert metres(one, other) == metres(other, one)


@given(PLACES, st.floats(-0.01, 0.01), st.floats(-0.01, 0.01), st.floats(0, 2000))
@example(Recorded(1, 0, 179.9999, 0), 0.0002, 0.0, 30.0)
def test_the_short_cuts_never_say_otherwise(
    place: Recorded, east: float, north: float, limit: float
) -> None:
    other = near(place, east, north)
    apart = metres(place, other)
    if abs(apart - limit) > 1e-6:
        assert is_within(place, other, limit) == (apart <= limit)


def test_two_sides_of_the_antimeridian_are_neighbours() -> None:
    west, east = Recorded(1, 0, 179.9999, 0), Recorded(2, 0, -179.9999, 0)
    assert metres(west, east) == pytest.approx(22.24, abs=0.01)
    assert is_within(west, east, 23)
    assert not is_within(west, east, 22)


def test_a_time_is_kept_to_the_microsecond() -> None:
    at = datetime(2026, 2, 6, 10, 30, 0, 123457, tzinfo=UTC)
    assert recorded(7, at, 106.8, -6.2) == (7, 1770373800.123457, 106.8, -6.2)
