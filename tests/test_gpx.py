"""dev.gpx: tracks from any device."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.gpx import POSSIBLE_KMH, GpxPoint, positions_of, read_gpx, seconds_of


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
    points = gpx(tmp_path, "1 2 2020-01-01T08:00:00", "1 2.001 2020-01-01T16:00:30+08:00")
    assert points[0].recorded_at == datetime(2020, 1, 1, 8, tzinfo=UTC)
    assert seconds_of(points, None) == [0, 30]


def timed(tmp_path: Path, *times: str) -> list[float]:
    """When points 11.1 m apart on the equator are reached, whose times are these."""
    points = [f"0 {n / 10_000} {time and '2020-01-01T00:' + time}" for n, time in enumerate(times)]
    found = seconds_of(gpx(tmp_path, *points), None)
    assert len(found) == len(times)  # no point is lost
    return [round(second, 2) for second in found]


def test_own_times_are_kept(tmp_path: Path) -> None:
    assert timed(tmp_path, "00:00Z", "00:10Z", "01:00.5Z") == [0, 10, 60.5]


@pytest.mark.parametrize(
    "bad", ["", "noon", "00:00Z", "59:00Z", "00:00.01Z"],
    ids=["missing", "unreadable", "the one before", "ahead", "too soon"],
)  # fmt: skip
def test_one_bad_time_lies_between_its_neighbours_and_discards_no_other(
    tmp_path: Path, bad: str
) -> None:
    assert timed(tmp_path, "00:00Z", bad, "00:20Z", "00:30Z") == [0, 10, 20, 30]


def test_times_that_go_backwards_for_a_while_lose_to_the_rest(tmp_path: Path) -> None:
    seconds = (0, 5, 10, 15, 1, 2, 30, 35)
    found = timed(tmp_path, *(f"00:{second:02d}Z" for second in seconds))
    assert found == [0, 5, 10, 15, 20, 25, 30, 35]


def test_before_the_first_and_after_the_last_time_the_pace_is_constant(tmp_path: Path) -> None:
    step = 1.1  # 12.1 m at 40 km/h
    found = timed(tmp_path, "", "", "10:00Z", "10:07Z", "")
    assert found == pytest.approx([0, step, 2 * step, 2 * step + 7, 3 * step + 7], abs=0.05)


POINTS = st.lists(
    st.tuples(
        st.floats(-80, 80), st.floats(-180, 180),
        st.none() | st.integers(0, 200_000),
    ),
    min_size=2, max_size=12,
)  # fmt: skip


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


@given(POINTS, st.none() | st.floats(0.1, 60))
def test_nobody_drives_impossibly_fast_or_is_nowhere(
    drawn: list[tuple[float, float, int | None]], interval_s: float | None
) -> None:
    points = [GpxPoint(y, x, None if s is None else at(s)) for y, x, s in drawn]
    seconds = seconds_of(points, interval_s)
    positions = positions_of(points, seconds)
    assert seconds[0] == 0
    assert [(p.latitude, p.longitude) for p in positions] == [(y, x) for y, x, _ in drawn]
    assert all(later > earlier for earlier, later in pairwise(seconds))
    assert max(position.speed_kmh for position in positions) <= POSSIBLE_KMH * (1 + 1e-6)


def test_a_given_interval_is_stronger_than_the_times(tmp_path: Path) -> None:
    points = gpx(tmp_path, "1 2 2020-01-01T00:00:00Z", "1 2.0001 2020-01-01T00:01:00Z")
    assert seconds_of(points, 0.5) == [0, 0.5]


def test_speed_and_heading_come_from_the_way_to_the_next_point(tmp_path: Path) -> None:
    points = gpx(tmp_path, "0 179.9999", "0 -179.9999", "0.0002 -179.9999", "0.0002 -179.9999")
    positions = positions_of(points, [0, 2, 4, 6])
    assert [p.heading_degrees for p in positions] == [
        pytest.approx(90), pytest.approx(0), -1, -1,
    ]  # fmt: skip
    assert positions[0].speed_kmh == pytest.approx(40, abs=0.1)
    assert positions[2].speed_kmh == 0
