"""dev.gpx: tracks from any device."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dev.gpx import GpxPoint, positions_of, read_gpx, seconds_of


def gpx(tmp_path: Path, *points: str, tag: str = "trkpt", version: str = "1/1") -> list[GpxPoint]:
    """Reads a file of these points, each "lat lon [time]"."""
    xml = ""
    for point in points:
        latitude, longitude, *time = point.split()
        inside = f"<ele>1</ele><time>{time[0]}</time>" if time else ""
        xml += f'<{tag} lat="{latitude}" lon="{longitude}">{inside}</{tag}>'
    file = tmp_path / "track.gpx"
    file.write_text(f'<gpx xmlns="http://www.topografix.com/GPX/{version}"><x>{xml}</x></gpx>')
    return read_gpx(file)


@pytest.mark.parametrize("version", ["1/0", "1/1"])
@pytest.mark.parametrize("tag", ["trkpt", "rtept"])
def test_tracks_and_routes_of_both_versions_are_read(
    tmp_path: Path, tag: str, version: str
) -> None:
    points = gpx(tmp_path, "1.5 2.5", "1.6 2.6", tag=tag, version=version)
    assert points == [GpxPoint(1.5, 2.5, None), GpxPoint(1.6, 2.6, None)]


def test_a_time_without_zone_is_utc_and_an_offset_is_kept(tmp_path: Path) -> None:
    points = gpx(tmp_path, "1 2 2020-01-01T08:00:00", "1 3 2020-01-01T16:00:30+08:00")
    assert points[0].recorded_at == datetime(2020, 1, 1, 8, tzinfo=UTC)
    assert seconds_of(points, None) == [0, 30]


def test_a_point_with_the_time_of_the_one_before_is_dropped(tmp_path: Path) -> None:
    at = "2020-01-01T00:00"
    points = gpx(tmp_path, f"1 2 {at}:00Z", f"1 3 {at}:00Z", f"1 4 {at}:05.5Z")
    assert [point.longitude for point in points] == [2, 4]
    assert seconds_of(points, None) == [0, 5.5]


@pytest.mark.parametrize("second", ["2019-12-31T23:59:59Z", ""], ids=["backwards", "missing"])
def test_times_that_cannot_be_driven_are_not_used(tmp_path: Path, second: str) -> None:
    points = gpx(tmp_path, "1 2 2020-01-01T00:00:00Z", f"1 3 {second}")
    assert seconds_of(points, None) == [0, 5]


def test_a_given_interval_is_stronger_than_the_times(tmp_path: Path) -> None:
    points = gpx(tmp_path, "1 2 2020-01-01T00:00:00Z", "1 3 2020-01-01T00:01:00Z")
    assert seconds_of(points, 0.5) == [0, 0.5]


def test_speed_and_heading_come_from_the_way_to_the_next_point(tmp_path: Path) -> None:
    points = gpx(tmp_path, "0 179.9999", "0 -179.9999", "0.0002 -179.9999", "0.0002 -179.9999")
    positions = positions_of(points, [0, 2, 4, 6])
    assert [p.heading_degrees for p in positions] == [
        pytest.approx(90), pytest.approx(0), -1, -1,
    ]  # fmt: skip
    assert positions[0].speed_kmh == pytest.approx(40, abs=0.1)
    assert positions[2].speed_kmh == 0
