"""tracking.wire.exports: what libraries that others wrote read in each format."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gpxpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.columns import NAN, points_of
from tests.reading import Read, Segment, csv_rows, read
from tracking.domain.points import Points
from tracking.errors import RouteChanged
from tracking.wire.exports import FORMATS
from tracking.wire.exports.export import Export
from tracking.wire.exports.format import ExportedTrip

START = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
ENDINGS = [*FORMATS]
TPX = "{http://www.garmin.com/xmlschemas/TrackPointExtension/v2}"


def exported(
    ending: str, points: Points, name: str = "BK-1", page: int = 1000,
    kept: list[int] | None = None, expected: int | None = None, **options: Any,
) -> bytes:  # fmt: skip
    """The document of a route that is read in pages."""
    trip = ExportedTrip(name, START, {"booking_id": "b", "booking_number": name, "status": "done"})
    export = Export(
        FORMATS[ending](), trip, points.count if expected is None else expected,
        gap_s=options.pop("gap_s", 60.0), **options,
    )  # fmt: skip
    text = export.head()
    for start in range(0, points.count, page):
        text += b"".join(export.page(points.part(start, start + page), kept))
    return text + b"".join(export.tail())


def line(seconds: Sequence[float], **more: Any) -> Points:
    places = [(106.8 + number * 1e-4, -6.2) for number in range(len(seconds))]
    return points_of(places, seconds, START, **more)


LONGITUDES = st.one_of(
    st.floats(-180, 180), st.sampled_from([180.0, -180.0, 179.9999999, 1e-6, -1e-5, -0.0, 1e-9])
)
PLACES = st.tuples(LONGITUDES, st.one_of(st.floats(-90, 90), st.sampled_from([1e-6, 90.0])))
MOTION = st.one_of(st.just(NAN), st.floats(0, 360, width=32))
WAYPOINTS = st.lists(
    st.tuples(
        PLACES, st.sampled_from([0, 0.000001, 1, 5, 59.999999, 60, 60.000001, 3600]),
        st.tuples(MOTION, MOTION), st.sampled_from([0, 0, 0, 1, 2]),
    ),
    max_size=14,
)  # fmt: skip
NAMES = st.text(st.characters(), max_size=12).map(lambda text: text or "BK")


def rejoined(document: Read) -> Read:
    """Segments that only ±180 degrees splits, as one."""
    found: list[Segment] = []
    for segment in document.segments:
        if found:
            (x, _, then), (there, _, at) = found[-1][-1], segment[0]
            if abs(x - there) > 180 and (at - then).total_seconds() <= 60:
                found[-1] = [*found[-1], *segment]
                continue
        found.append(segment)
    return Read(found)


@given(WAYPOINTS, st.integers(1, 6), st.booleans(), NAMES)
def test_all_formats_hold_the_same_points_in_the_same_segments(
    waypoints: list[tuple[Any, ...]], page: int, with_flagged: bool, name: str
) -> None:
    places, waits, motion, verdicts = zip(*waypoints, strict=True) if waypoints else ((),) * 4
    name = name.encode(errors="replace").decode()  # PostgreSQL holds no lone surrogates
    seconds = [sum(waits[: number + 1]) for number in range(len(waits))]
    points = points_of(places, seconds, START, motion, [*verdicts])
    if with_flagged:
        points = points_of(places, seconds, START, motion)
    found = [rejoined(read(ending, exported(ending, points, name, page))) for ending in ENDINGS]
    accepted = [n for n, verdict in enumerate(points.verdict) if not verdict]
    longitudes, latitudes = points.rounded()
    times = [START + timedelta(seconds=seconds[n]) for n in accepted]
    for each in found:
        assert [(abs(x), y) if abs(x) == 180 else (x, y) for x, y, _ in each.points] == [
            (abs(x), y) if abs(x) == 180 else (x, y)
            for x, y in ((longitudes[n], latitudes[n]) for n in accepted)
        ]
        assert [time for *_, time in each.points] == times
        sizes = [len(segment) for segment in each.segments]
        assert sizes == [len(segment) for segment in found[0].segments]
        for segment in each.segments:
            assert all((b[2] - a[2]).total_seconds() <= 60 for a, b in pairwise(segment))
        for before, after in pairwise(each.segments):
            assert (after[0][2] - before[-1][2]).total_seconds() > 60
    assert len(csv_rows(exported("csv", points, name, page))) == points.count


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_gap_begins_a_new_segment_and_a_lone_waypoint_is_one(ending: str) -> None:
    points = line([0, 5, 10, 100, 105, 300, 500, 505])
    found = read(ending, exported(ending, points, page=3))
    assert [len(segment) for segment in found.segments] == [3, 2, 1, 2]
    found = read(ending, exported(ending, points, page=3, gap_s=90))
    assert [len(segment) for segment in found.segments] == [5, 1, 2]


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_a_document_too(ending: str) -> None:
    assert read(ending, exported(ending, line([]))).segments == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_export_that_lacks_waypoints_has_no_end(ending: str) -> None:
    with pytest.raises(RouteChanged, match="3 waypoints"):
        exported(ending, line([0, 5, 10]), expected=6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_flagged_waypoints_are_in_it_when_asked_for_and_in_csv_always(ending: str) -> None:
    points = line([0, 5, 10, 80], verdicts=[0, 1, 2, 0])
    without, including = (exported(ending, points, with_flagged=flag) for flag in (False, True))
    if ending == "csv":
        rows = [[(row["verdict"], row["segment"]) for row in csv_rows(document)]
                for document in (without, including)]  # fmt: skip
        # What is not accepted bridges no gap: 80 s after the first waypoint another segment begins.
        assert rows[0] == [("0", "1"), ("1", "1"), ("2", "1"), ("0", "2")]
        assert rows[1] == [("0", "1"), ("1", "1"), ("2", "1"), ("0", "2")]
        return
    assert [len(segment) for segment in read(ending, without).segments] == [1, 1]
    assert [len(segment) for segment in read(ending, including).segments] == [3, 1]


@pytest.mark.parametrize("ending", ENDINGS)
def test_only_what_is_kept_leaves_and_segments_stay_as_they_were(ending: str) -> None:
    points = line([0, 50, 100, 150, 300, 305])
    found = read(ending, exported(ending, points, page=4, kept=[1, 4, 5, 6]))
    assert [len(segment) for segment in found.segments] == [2, 2]
    assert [point[2] for point in found.points] == [
        START + timedelta(seconds=second) for second in (0, 150, 300, 305)
    ]


HOSTILE = "BK <&>\"'\x00\x0b\uffff ]]> 🐕"


def test_no_booking_number_breaks_a_document() -> None:
    documents = {ending: exported(ending, line([0, 5]), HOSTILE) for ending in ENDINGS}
    shown = HOSTILE.replace("\x00", "�").replace("\x0b", "�").replace("\uffff", "�")
    gpx = gpxpy.parse(documents["gpx"].decode())
    assert (gpx.name, gpx.tracks[0].name) == (shown, shown)
    kml = ElementTree.fromstring(documents["kml"])
    assert [e.text for e in kml.iter("{http://www.opengis.net/kml/2.2}name")] == [shown, shown]
    assert json.loads(documents["geojson"])["trip"]["booking_number"] == HOSTILE
    assert all(len(read(ending, documents[ending]).points) == 2 for ending in ENDINGS)


def test_gpx_has_speed_in_metres_a_second_and_course_below_360() -> None:
    motion = [(36.0, 90.0), (NAN, 360.0), (7.2, NAN), (NAN, NAN)]
    document = exported("gpx", line([0, 5, 10, 15], motion=motion))
    said = [
        [(each.tag.removeprefix(TPX), float(each.text or "")) for extension in point.extensions
         for each in extension]
        for point in gpxpy.parse(document.decode()).tracks[0].segments[0].points
    ]  # fmt: skip
    assert said == [[("speed", 10.0), ("course", 90.0)], [("course", 0.0)], [("speed", 2.0)], []]
    assert document.count(b"<extensions>") == 3


def test_csv_leaves_empty_what_the_phone_did_not_say() -> None:
    motion = [(36.5, NAN), (NAN, 0.0)]
    first, second = csv_rows(exported("csv", line([0, 0.5], motion=motion)))
    assert [*first] == [
        "seq", "recorded_at", "longitude", "latitude", "speed_kmh", "heading_degrees",
        "received_at", "segment", "verdict",
    ]  # fmt: skip
    assert (first["speed_kmh"], first["heading_degrees"]) == ("36.5", "")
    assert (second["speed_kmh"], second["heading_degrees"]) == ("", "0.0")
    assert second["recorded_at"] == "2026-02-06T10:30:00.500000Z"


def test_kml_tells_readers_not_to_join_segments_and_has_all_times_first() -> None:
    document = exported("kml", line([0, 5, 200, 205]))
    assert b"<gx:interpolate>0</gx:interpolate>" in document
    for track in document.split(b"<gx:Track>")[1:]:
        assert track.rindex(b"<when>") < track.index(b"<gx:coord>")


def test_geojson_is_cut_at_the_antimeridian_and_says_what_is_interpolated() -> None:
    places = [(179.0, 0.0), (-179.0, 2.0), (-178.0, 2.0)]
    document = json.loads(exported("geojson", points_of(places, [0, 10, 20], START)))
    lines = [feature["geometry"]["coordinates"] for feature in document["features"]]
    assert lines == [[[179, 0], [180, 1]], [[-180, 1], [-179, 2], [-178, 2]]]
    told = [feature["properties"] for feature in document["features"]]
    assert [each["segment"] for each in told] == [1, 1]
    assert [each["interpolated"] for each in told] == [[1], [0]]
    assert told[0]["coordTimes"][1] == told[1]["coordTimes"][0] == "2026-02-06T10:30:05Z"
    assert document["bbox"] == [179, 0, -178, 2]
    assert not document.keys() & {"coordinates", "geometries", "geometry", "properties"}


@pytest.mark.parametrize("ending", ["gpx", "kml"])
@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_no_segment_of_gpx_and_kml_goes_around_the_world(ending: str, page: int) -> None:
    """Waypoints, and no points that nobody recorded."""
    longitudes = [178.0, 179.0, -179.0, -178.0, 179.0, 100.0, -70.0, 100.0, -90.0, -100.0]
    places = [(longitude, 1.0) for longitude in longitudes]
    points = points_of(places, [number * 10 for number in range(len(places))], START)
    document = exported(ending, points, page=page)
    segments = [[x for x, _, _ in segment] for segment in read(ending, document).segments]
    assert segments == [
        [178.0, 179.0], [-179.0, -178.0], [179.0, 100.0, -70.0, 100.0], [-90.0, -100.0],
    ]  # fmt: skip
    half = points_of([(1e-9, 0.0), (-180.0, 0.0)], [0, 5], START)  # 0 as it is written
    assert [len(each) for each in read(ending, exported(ending, half)).segments] == [2]
    gap = points_of([(179.0, 0.0), (-179.0, 0.0), (-178.0, 0.0)], [0, 100, 105], START)
    read_back = read(ending, exported(ending, gap, page=page))
    assert [len(each) for each in read_back.segments] == [1, 2]


def gdal(program: str, *arguments: str | Path) -> str:
    found = shutil.which(program)
    assert found is not None, "install the Debian package gdal-bin, or run `make setup`"
    done = subprocess.run([found, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Of a route of three segments: 3, 2 and one waypoint.
OF_GDAL = {
    "geojson": ["Feature Count: 3", "LINESTRING (106.8 -6.2", "POINT (106.8005"],
    "gpx": ["MULTILINESTRING ((106.8 -6.2,106.8001 -6.2,106.8002 -6.2),(106.8003"],
    "kml": [
        "Feature Count: 1",
        "MULTILINESTRING Z ((106.8 -6.2 0,106.8001 -6.2 0,106.8002 -6.2 0),(",
    ],
    "csv": ["Feature Count: 6", "POINT (106.8005 -6.2)"],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_gdal_reads_it_and_makes_other_formats_of_it(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"BK-1.{ending}"
    path.write_bytes(exported(ending, line([0, 5, 10, 100, 105, 300])))
    columns = ["X_POSSIBLE_NAMES=longitude", "Y_POSSIBLE_NAMES=latitude"]
    options = [each for column in columns for each in ("-oo", column)] if ending == "csv" else []
    said = gdal("ogrinfo", "-al", *options, path)
    for text in OF_GDAL[ending]:
        assert text in said, said
    if ending == "geojson":
        made = tmp_path / "BK-1.fgb"
        gdal("ogr2ogr", "-mapFieldType", "StringList=String", made, path)
        assert "Feature Count: 3" in gdal("ogrinfo", "-so", "-al", made)
