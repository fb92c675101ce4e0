"""tracking.wire.geojson: routes as GeoJSON, cut where they cross the antimeridian."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.columns import points_of
from tracking.domain.points import Points
from tracking.wire import geojson
from tracking.wire.geojson import RouteGeometry, RouteTorn

START = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
Degrees = tuple[float, float]


def waypoints(points: list[Degrees]) -> Points:
    return points_of(points, [10.0 * number for number in range(len(points))], START)


def encoded(points: list[Degrees], page: int = 1000, may_cross: bool | None = None) -> Any:
    """Geometry, bbox and coordTimes of a route that is read in pages."""
    longitudes = [longitude for longitude, _ in points] or [0.0]
    if may_cross is None:
        may_cross = max(longitudes) - min(longitudes) > 180
    geometry, rows = RouteGeometry(may_cross), waypoints(points)
    text = geometry.begin(rows.part(0, page))
    text += (
        geometry.add(rows.part(0, 0)) if rows.count else b""
    )  # what was there has left the route
    for start in range(page, rows.count, page):
        text += geometry.add(rows.part(start, start + page))
    text += geometry.end()
    return json.loads(text), geometry.bbox(), json.loads(b"".join(geometry.times()))


def seconds(times: list[Any]) -> list[Any]:
    """Times since the start, in their nesting."""
    return [
        seconds(each)
        if isinstance(each, list)
        else (datetime.fromisoformat(each) - START).total_seconds()
        for each in times
    ]


def test_no_point_is_no_geometry_and_one_is_a_point() -> None:
    assert encoded([]) == (None, None, [])
    geometry, bbox, times = encoded([(106.8, -6.2)])
    assert geometry == {"type": "Point", "coordinates": [106.8, -6.2]}
    assert (bbox, len(times)) == ([106.8, -6.2, 106.8, -6.2], 1)


def test_a_route_is_a_line_with_a_time_for_each_point() -> None:
    geometry, bbox, times = encoded([(106.8, -6.2), (106.81234567, -6.1), (106.7, -6.3)], page=2)
    assert geometry == {
        "type": "LineString",
        "coordinates": [[106.8, -6.2], [106.812346, -6.1], [106.7, -6.3]],
    }
    assert bbox == [106.7, -6.3, 106.812346, -6.1]
    assert seconds(times) == [0, 10, 20]


# Points -> lines, their seconds, west and east.
CROSSINGS: dict[str, tuple[list[Degrees], list[list[Degrees]], list[list[float]], Degrees]] = {
    "eastwards": (
        [(179.9995, -16.8), (-179.999, -16.8)],
        [[(179.9995, -16.8), (180, -16.8)], [(-180, -16.8), (-179.999, -16.8)]],
        [[0, 3.333333], [3.333333, 10]],
        (179.9995, -179.999),
    ),
    "westwards, and the latitude is interpolated": (
        [(-179, 10), (179, 20)],
        [[(-179, 10), (-180, 15)], [(180, 15), (179, 20)]],
        [[0, 5], [5, 10]],
        (179, -179),
    ),
    "there and back": (
        [(179, 0), (-179, 0), (179, 0)],
        [[(179, 0), (180, 0)], [(-180, 0), (-179, 0), (-180, 0)], [(180, 0), (179, 0)]],
        [[0, 5], [5, 10, 15], [15, 20]],
        (179, -179),
    ),
    "a waypoint lies on it": (
        [(179, 0), (180, 1), (-179, 2)],
        [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]],
        [[0, 10], [10, 20]],
        (179, -179),
    ),
    "a waypoint lies on it, reported with the other sign": (
        [(179, 0), (-180, 1), (-179, 2)],
        [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]],
        [[0, 10], [10, 20]],
        (179, -179),
    ),
    "it begins there": (
        [(180, 0), (-179, 0), (-178, 0)],
        [[(-180, 0), (-179, 0), (-178, 0)]],
        [[0, 10, 20]],
        (-180, -178),
    ),
    "it ends there": (
        [(178, 0), (179, 0), (-180, 0)],
        [[(178, 0), (179, 0), (180, 0)]],
        [[0, 10, 20]],
        (178, 180),
    ),
    "it rests there": (
        [(180, 0), (-180, 0), (180, 0), (-179, 0)],
        [[(-180, 0), (-180, 0), (-180, 0), (-179, 0)]],
        [[0, 10, 20, 30]],
        (-180, -179),
    ),
    "six decimals lie on it": (
        [(179, 0), (179.99999999, 1), (-179, 2)],
        [[(179, 0), (180, 1)], [(-180, 1), (-179, 2)]],
        [[0, 10], [10, 20]],
        (179, -179),
    ),
    "it goes the long way": (
        [(-170, 0), (0, 0), (170, 0)],
        [[(-170, 0), (0, 0), (170, 0)]],
        [[0, 10, 20]],
        (-170, 170),
    ),
    "it goes round the world": (
        [(-170, 0), (-10, 0), (150, 0), (-170, 0), (-100, 0)],
        [[(-170, 0), (-10, 0), (150, 0), (180, 0)], [(-180, 0), (-170, 0), (-100, 0)]],
        [[0, 10, 20, 27.5], [27.5, 30, 40]],
        (-180, 180),
    ),
}


@pytest.mark.parametrize("page", [1000, 2])
@pytest.mark.parametrize("name", list(CROSSINGS))
def test_a_route_is_cut_at_the_antimeridian(name: str, page: int) -> None:
    points, lines, times, (west, east) = CROSSINGS[name]
    geometry, bbox, found = encoded(points, page)
    assert geometry["type"] == "MultiLineString"
    assert geometry["coordinates"] == [[list(point) for point in line] for line in lines]
    assert [[round(s, 6) for s in line] for line in seconds(found)] == times
    assert (bbox[0], bbox[2]) == (west, east)


def test_a_line_that_was_begun_as_one_is_never_a_lie() -> None:
    with pytest.raises(RouteTorn):
        encoded([(0, 0), (179, 0), (-179, 0)], page=2, may_cross=False)


LONGITUDES = st.one_of(
    st.floats(-180, 180), st.sampled_from([180.0, -180.0, 179.9999999, -179.9999999, 0.0])
)


@given(
    st.lists(st.tuples(LONGITUDES, st.floats(-90, 90)), min_size=2, max_size=12),
    st.integers(2, 5),
)
def test_whatever_the_route_no_leg_crosses_and_every_line_is_one(
    points: list[Degrees], page: int
) -> None:
    geometry, bbox, times = encoded(points, page)
    is_multi = geometry["type"] == "MultiLineString"
    lines = geometry["coordinates"] if is_multi else [geometry["coordinates"]]
    assert [len(line) for line in lines] == [len(t) for t in (times if is_multi else [times])]
    for line in lines:
        assert len(line) >= 2
        assert all(-180 <= longitude <= 180 for longitude, _ in line)
        assert all(abs(b[0] - a[0]) <= 180 for a, b in pairwise(line))
    flat = [second for line in (times if is_multi else [times]) for second in seconds(line)]
    assert flat == sorted(flat)
    west, south, east, north = bbox
    for longitude, latitude in (point for line in lines for point in line):
        inside = west <= longitude <= east if west <= east else not east < longitude < west
        assert inside or abs(longitude) == 180
        assert south <= latitude <= north


def test_the_times_of_a_long_route_leave_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geojson, "PIECE", 3)
    points = [(float(number), 0.0) for number in range(10)]
    assert seconds(encoded(points)[2]) == [10 * number for number in range(10)]
