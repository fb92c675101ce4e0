"""A route as GPX 1.1, with speed and course as Garmin's TrackPointExtension v2 has them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracking.domain.points import MOTION, Numbers, Points
from tracking.domain.times import rfc3339
from tracking.wire.columns import Column, decimals_text, times_text, woven
from tracking.wire.exports.format import ExportedTrip, Format, xml_text

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<gpx xmlns="http://www.topografix.com/GPX/1/1"\
 xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2"\
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"\
 xsi:schemaLocation="http://www.topografix.com/GPX/1/1 http://www.topografix.com/GPX/1/1/gpx.xsd\
 http://www.garmin.com/xmlschemas/TrackPointExtension/v2\
 https://www8.garmin.com/xmlschemas/TrackPointExtensionv2.xsd"\
 version="1.1" creator="service-tracking">
<metadata><name>{name}</name><time>{time}</time></metadata>
<trk><name>{name}</name>
"""
_EXTENSION = (b"<extensions><gpxtpx:TrackPointExtension>",
              b"</gpxtpx:TrackPointExtension></extensions>")  # fmt: skip


class Gpx(Format):
    """A `trk`, in it a `trkseg` for each segment, or each part of it on one side of ±180 degrees.
    Speeds are m/s here.
    """

    content_type = "application/gpx+xml"
    columns = MOTION
    ends_at_antimeridian = True

    def begin(self, trip: ExportedTrip) -> bytes:
        return _HEAD.format(name=xml_text(trip.name), time=rfc3339(trip.at)).encode()

    def open_segment(self) -> Iterator[bytes]:
        yield b"<trkseg>\n"

    def add(self, points: Points) -> Iterator[bytes]:
        longitude, latitude = points.rounded()
        yield woven(
            b'<trkpt lat="', decimals_text(latitude), b'" lon="', decimals_text(longitude),
            b'"><time>', times_text(points.recorded_at), b"</time>", *_motion(points),
            b"</trkpt>\n",
        )  # fmt: skip

    def close_segment(self) -> Iterator[bytes]:
        yield b"</trkseg>\n"

    def end(self) -> bytes:
        return b"</trk>\n</gpx>\n"


def _motion(points: Points) -> list[Column]:
    """Columns of extensions; nothing stands for what the phone did not say."""
    speed, course = points.speed_kmh, points.heading_degrees
    no_speed, no_course = np.isnan(speed), np.isnan(course)
    speeds = _elements(b"speed", _rounded(speed, 3.6, 3), no_speed)
    # 360 is north, too, but no course of the schema.
    courses = _elements(b"course", _rounded(course, 1.0, 2) % 360, no_course)
    unknown = no_speed & no_course
    if not unknown.any():
        return [_EXTENSION[0], *speeds, *courses, _EXTENSION[1]]
    begin, end = ([b"" if each else text for each in unknown.tolist()] for text in _EXTENSION)
    return [begin, *speeds, *courses, end]


def _rounded(numbers: NDArray[np.float32], divisor: float, decimals: int) -> Numbers:
    wide: Numbers = numbers.astype(np.float64) / divisor
    return np.round(wide, decimals)


def _elements(
    name: bytes, numbers: Numbers, unknown: NDArray[np.bool_]
) -> list[bytes | list[bytes]]:
    before, after = b"<gpxtpx:" + name + b">", b"</gpxtpx:" + name + b">"
    if not unknown.any():
        return [before, decimals_text(numbers), after]
    texts: Any = zip(unknown.tolist(), decimals_text(np.nan_to_num(numbers)), strict=True)
    return [[b"" if is_unknown else before + text + after for is_unknown, text in texts]]
