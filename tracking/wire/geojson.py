"""A route's geometry as GeoJSON (RFC 7946), piece by piece: flat memory, however long it is.

A route that crosses the antimeridian is a MultiLineString, cut at ±180 degrees (section 3.1.9), and
its bounding box has a west that is greater than its east (section 5.2). coordTimes has the times in
the same nesting, with an interpolated time for each point of a cut.
"""

from collections.abc import Iterator
from typing import Final

from tracking.domain.points import Points, Whole
from tracking.wire.antimeridian import Bounds, Cutter, Part
from tracking.wire.columns import json_times, pairs

# Coordinates and times leave in pieces of so many, each of which holds the GIL for less than 1 ms.
PIECE: Final = 2_000


class RouteTorn(Exception):
    """A route that was begun as one line crosses the antimeridian: its rows changed meanwhile."""


class RouteGeometry:
    """The geometry of one route while it leaves: `begin`, `add` for each page, `end`.

    The type is decided by the first page. `may_cross`: some waypoints are more than 180 degrees
    apart, so it is to be a MultiLineString. In memory stay eight bytes for each waypoint.
    """

    def __init__(self, may_cross: bool) -> None:
        self._is_multi = may_cross
        self._type: str | None = None
        self._cutter = Cutter()
        self._bounds = Bounds()
        self._lines: list[list[Whole]] = [[]]  # the times of each line

    def begin(self, points: Points) -> bytes:
        """The first page, perhaps an empty one, with what stands before it."""
        if not points.count:
            return b"null"
        if points.count == 1:
            self._type = "Point"
            return b'{"type":"Point","coordinates":' + self.add(points)
        self._type = "MultiLineString" if self._is_multi else "LineString"
        opening = b'{"type":"' + self._type.encode() + b'","coordinates":['
        return opening + (b"[" if self._is_multi else b"") + self.add(points)

    def add(self, points: Points) -> bytes:
        """A page, perhaps an empty one; raises RouteTorn."""
        if not points.count:
            return b""
        first, *others = self._cutter.parts(points)
        if others and not self._is_multi:
            raise RouteTorn
        goes_on = self._lines[0] and len(first.time)  # nothing is left of a leg that begins at ±180
        texts = [b"," if goes_on else b"", self._text(first)]
        for part in others:
            self._lines.append([])
            texts += [b"],[", self._text(part)]
        return b"".join(texts)

    def _text(self, part: Part) -> bytes:
        self._bounds.add(part)
        self._lines[-1].append(part.time)
        return b",".join(
            pairs(part.longitude[at : at + PIECE], part.latitude[at : at + PIECE])
            for at in range(0, len(part.time), PIECE)
        )

    def end(self) -> bytes:
        """What closes the geometry."""
        return {None: b"", "Point": b"}", "LineString": b"]}"}.get(self._type, b"]]}")

    def bbox(self) -> list[float] | None:
        """West, south, east, north of all that was added; None without a point."""
        return self._bounds.bbox()

    def times(self) -> Iterator[bytes]:
        """coordTimes, shaped as the coordinates are."""
        yield b"["
        is_multi = self._type == "MultiLineString"
        for line, pages in enumerate(self._lines):
            yield (b"],[" if line else b"[") if is_multi else b""
            comma = b""
            for page in pages:
                for at in range(0, len(page), PIECE):
                    yield comma + json_times(page[at : at + PIECE])
                    comma = b","
        yield b"]]" if is_multi else b"]"
