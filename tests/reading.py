"""Exports as libraries that others wrote read them: one shape for all formats."""

import csv
import io
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import fastkml
import gpxpy
from gpx import validate
from lxml import etree

Segment = list[tuple[float, float, datetime]]  # longitude, latitude, when


class Read(NamedTuple):
    """Segments in order, their waypoints in order: what every format has to agree on."""

    segments: list[Segment]

    @property
    def points(self) -> Segment:
        return [point for segment in self.segments for point in segment]


def read(ending: str, document: bytes) -> Read:
    return {"geojson": of_geojson, "gpx": of_gpx, "kml": of_kml, "csv": of_csv}[ending](document)


def of_geojson(document: bytes) -> Read:
    """Without the points of a cut, which are no waypoints."""
    found: dict[int, Segment] = {}
    for feature in json.loads(document)["features"]:
        geometry, properties = feature["geometry"], feature["properties"]
        is_point = geometry["type"] == "Point"
        places = [geometry["coordinates"]] if is_point else geometry["coordinates"]
        assert len(places) == len(properties["coordTimes"])
        assert is_point or len(places) >= 2
        segment = found.setdefault(properties["segment"], [])
        for number, ((x, y), time) in enumerate(zip(places, properties["coordTimes"], strict=True)):
            if number not in properties.get("interpolated", []):
                segment.append((x, y, datetime.fromisoformat(time)))
    assert list(found) == sorted(found)
    return Read([*found.values()])


def of_gpx(document: bytes) -> Read:
    result = validate(document.decode())
    assert result.is_valid, result
    (track,) = gpxpy.parse(document.decode()).tracks
    return Read(
        [
            [(p.longitude, p.latitude, _known(p.time)) for p in segment.points]
            for segment in track.segments
        ]
    )


def _known(time: datetime | None) -> datetime:
    assert time is not None
    return time


@cache
def _kml_schema() -> etree.XMLSchema:
    """OGC's and Google's, as fastkml ships them."""
    folder = Path(fastkml.__file__).parent / "schema"
    return etree.XMLSchema(etree.parse(folder / "kml22gx.xsd"))


def of_kml(document: bytes) -> Read:
    _kml_schema().assertValid(etree.fromstring(document))
    # As text it would have to say nothing of its encoding.
    from_string: Any = fastkml.KML.from_string
    kml = from_string(document, strict=True)
    (placemark,) = kml.features[0].features
    return Read(
        [
            [(item.coord.x, item.coord.y, item.when.dt) for item in track.track_items]
            for track in placemark.kml_geometry.tracks
        ]
    )


def of_csv(document: bytes) -> Read:
    """Without those that are flagged."""
    found: dict[str, Segment] = {}
    for row in csv_rows(document):
        if row["verdict"] == "0":
            place = float(row["longitude"]), float(row["latitude"])
            time = datetime.fromisoformat(row["recorded_at"])
            found.setdefault(row["segment"], []).append((*place, time))
    return Read([*found.values()])


def csv_rows(document: bytes) -> list[dict[str, str]]:
    text = document.decode()
    assert text.endswith("\r\n")
    return [*csv.DictReader(io.StringIO(text, newline=""), strict=True)]
