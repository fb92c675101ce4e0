"""A route as a GeoJSON FeatureCollection (RFC 7946): a Feature for each segment."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tracking.domain.points import PLACE_AND_TIME, Points, Whole, joined
from tracking.wire.antimeridian import Bounds, Cutter, Part
from tracking.wire.columns import json_times, pairs
from tracking.wire.exports.format import ExportedTrip, Format

_encode = msgspec.json.encode


class FeatureCollection(Format):
    """LineStrings, or a Point for a lone waypoint. One that is cut at ±180 degrees goes on in a
    further Feature of the same segment. In memory stay the eight bytes of a segment's times.
    """

    content_type = "application/geo+json"
    columns = PLACE_AND_TIME

    def __init__(self) -> None:
        self._bounds = Bounds()
        self._comma = b""
        self._cutter = Cutter()
        self._held: Points | None = None  # a segment's first point, as long as it is alone
        self._times: list[Whole] = []
        self._begins_cut = False

    def begin(self, trip: ExportedTrip) -> bytes:
        return b'{"type":"FeatureCollection","trip":' + _encode(trip.properties) + b',"features":['

    def open_segment(self) -> Iterator[bytes]:
        self._cutter, self._held = Cutter(), None
        return iter(())

    def add(self, points: Points) -> Iterator[bytes]:
        if self._held is not None:
            points, self._held = joined(self._held, points), None
        if not self._times:
            if points.count == 1:
                self._held = points
                return
            yield self._opening(b"LineString") + b"["
        first, *others = self._cutter.parts(points)
        yield self._text(first)
        previous = first
        for part in others:
            yield from self._close(b"]", previous.ends_cut)
            yield self._opening(b"LineString") + b"["
            self._begins_cut = True
            yield self._text(part)
            previous = part

    def close_segment(self) -> Iterator[bytes]:
        if self._held is not None:
            (part,) = self._cutter.parts(self._held)
            yield self._opening(b"Point") + self._text(part)
            yield from self._close(b"", ends_cut=False)
        elif self._times:
            yield from self._close(b"]", ends_cut=False)

    def end(self) -> bytes:
        bbox = self._bounds.bbox()
        return b"]" + (b"" if bbox is None else b',"bbox":' + _encode(bbox)) + b"}\n"

    def _opening(self, kind: bytes) -> bytes:
        comma, self._comma = self._comma, b","
        return comma + b'\n{"type":"Feature","geometry":{"type":"' + kind + b'","coordinates":'

    def _text(self, part: Part) -> bytes:
        if not len(part.time):
            return b""
        self._bounds.add(part)
        comma = b"," if self._times else b""
        self._times.append(part.time)
        return comma + pairs(part.longitude, part.latitude)

    def _close(self, bracket: bytes, ends_cut: bool) -> Iterator[bytes]:
        """The Feature's end: its properties stand behind its coordinates."""
        times, self._times = self._times, []
        properties: dict[str, Any] = {"segment": self.segment}
        size = sum(map(len, times))
        cut = [*([0] if self._begins_cut else []), *([size - 1] if ends_cut else [])]
        if cut:
            properties["interpolated"] = cut
        self._begins_cut = False
        yield bracket + b'},"properties":' + _encode(properties)[:-1] + b',"coordTimes":['
        for number, each in enumerate(times):
            yield (b"," if number else b"") + json_times(each)
        yield b"]}}"
