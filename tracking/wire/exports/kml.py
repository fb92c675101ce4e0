"""A route as KML 2.2 with Google's tracks, which have a time for each position."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tracking.domain.points import PLACE_AND_TIME, Numbers, Points
from tracking.wire.columns import decimal_pairs_joined, times_joined
from tracking.wire.exports.format import ExportedTrip, Format, xml_text

_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2">
<Document><name>{name}</name>
<Placemark><name>{name}</name>
<ExtendedData>{data}</ExtendedData>
<gx:MultiTrack><gx:interpolate>0</gx:interpolate>
"""
# What tells of the trip as plain texts and numbers.
_DATA: Final = ("booking_id", "runner_id", "status", "phase", "distance_m", "duration_s",
                "started_at", "completed_at")  # fmt: skip


class Kml(Format):
    """A `gx:MultiTrack`, in it a `gx:Track` for each segment, or each part of it on one side of
    ±180 degrees.

    Its schema wants all times of a track before all its positions, so 16 bytes for each waypoint of
    one segment stay in memory.
    """

    content_type = "application/vnd.google-earth.kml+xml"
    columns = PLACE_AND_TIME
    ends_at_antimeridian = True

    def __init__(self) -> None:
        self._held: list[tuple[Numbers, Numbers]] = []

    def begin(self, trip: ExportedTrip) -> bytes:
        name, data = xml_text(trip.name), _data(trip.properties)
        return _HEAD.format(name=name, data=data).encode()

    def open_segment(self) -> Iterator[bytes]:
        yield b"<gx:Track>\n"

    def add(self, points: Points) -> Iterator[bytes]:
        self._held.append(points.rounded())
        times = times_joined(points.recorded_at, b"</when>\n<when>")
        yield b"<when>" + times + b"</when>\n"

    def close_segment(self) -> Iterator[bytes]:
        held, self._held = self._held, []
        for longitude, latitude in held:
            between = b" 0</gx:coord>\n<gx:coord>"
            places = decimal_pairs_joined(longitude, latitude, b" ", between)
            yield b"<gx:coord>" + places + b" 0</gx:coord>\n"
        yield b"</gx:Track>\n"

    def end(self) -> bytes:
        return b"</gx:MultiTrack>\n</Placemark>\n</Document>\n</kml>\n"


def _data(properties: Mapping[str, Any]) -> str:
    known = [(name, properties[name]) for name in _DATA if properties.get(name) is not None]
    return "".join(
        f'<Data name="{name}"><value>{xml_text(str(value))}</value></Data>' for name, value in known
    )
