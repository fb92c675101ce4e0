"""A route's geometry as GeoJSON (RFC 7946), piece by piece: flat memory, however long it is.

A route that crosses the antimeridian is a MultiLineString, cut at ±180 degrees (section 3.1.9), and
its bounding box has a west that is greater than its east (section 5.2). coordTimes has the times in
the same nesting, with an interpolated time for each point of a cut.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from tracking.domain.times import rfc3339
from tracking.domain.waypoints import RouteWaypoint

_encode = msgspec.json.encode

# Six decimals are a tenth of a metre; more only pretends to know.
DECIMALS: Final = 6
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
# coordTimes leave in pieces of so many.
TIMES_PIECE: Final = 2_000


class RouteTorn(Exception):
    """A route that was begun as one line crosses the antimeridian: its rows changed meanwhile."""


class _Point(NamedTuple):
    """As it is written: rounded degrees, microseconds since 1970."""

    longitude: float
    latitude: float
    time: int


class RouteGeometry:
    """The geometry of one route while it leaves: `begin`, `add` for each page, `end`.

    The type is decided by the first page. `may_cross`: some waypoints are more than 180 degrees
    apart, so it is to be a MultiLineString. In memory stay eight bytes for each waypoint.
    """

    def __init__(self, may_cross: bool) -> None:
        self._is_multi = may_cross
        self._type: str | None = None
        self._last: _Point | None = None
        self._times: array[int] = array("q")
        self._starts: list[int] = []  # where in `_times` a further line begins
        self._turn = 0.0  # degrees that longitudes are apart from a line that is not cut
        self._west = self._south = float("inf")
        self._east = self._north = float("-inf")

    def begin(self, rows: Sequence[RouteWaypoint]) -> bytes:
        """The first page, perhaps an empty one, with what stands before it."""
        if not rows:
            return b"null"
        if len(rows) == 1:
            self._type = "Point"
            point = _point(rows[0])
            self._hold(point)
            return b'{"type":"Point","coordinates":' + _text(point)
        self._type = "MultiLineString" if self._is_multi else "LineString"
        opening = b'{"type":"' + self._type.encode() + b'","coordinates":['
        return opening + (b"[" if self._is_multi else b"") + self.add(rows)

    def add(self, rows: Sequence[RouteWaypoint]) -> bytes:
        """A page; raises RouteTorn."""
        nearby = [round(row.longitude, DECIMALS) for row in rows]
        if self._last is not None:
            nearby.append(self._last.longitude)
        if max(nearby) - min(nearby) < 180:
            return self._add_uncut(rows, nearby[: len(rows)])
        return self._add_legs([_point(row) for row in rows])

    def _add_uncut(self, rows: Sequence[RouteWaypoint], longitudes: list[float]) -> bytes:
        """A page that is nowhere near a cut: all of them, almost always, and so at once."""
        latitudes = [round(row.latitude, DECIMALS) for row in rows]
        comma = b"" if self._last is None else b","
        self._times.extend((row.recorded_at - EPOCH) // MICROSECOND for row in rows)
        self._last = _Point(longitudes[-1], latitudes[-1], self._times[-1])
        self._west = min(self._west, min(longitudes) + self._turn)
        self._east = max(self._east, max(longitudes) + self._turn)
        self._south = min(self._south, *latitudes)
        self._north = max(self._north, *latitudes)
        return comma + _encode([*zip(longitudes, latitudes, strict=True)])[1:-1]

    def _add_legs(self, points: list[_Point]) -> bytes:
        parts: list[bytes] = []
        for number, point in enumerate(points):
            if self._last is None:
                following = points[number + 1] if number + 1 < len(points) else None
                point = _beside(point, following)
            else:
                point = _beside(point, self._last)
                parts.append(self._leg(self._last, point))
            parts.append(_text(point))
            self._hold(point)
        return b"".join(parts)

    def _leg(self, last: _Point, point: _Point) -> bytes:
        """What stands between two points: a comma, or the cut of a leg that crosses ±180."""
        if abs(point.longitude - last.longitude) <= 180:
            return b","
        if not self._is_multi:
            raise RouteTorn
        side = 180.0 if last.longitude > 0 else -180.0
        here, there = _cut(last, point, side)
        before = b""
        if last.longitude != side:
            self._hold(here)
            before = b"," + _text(here)
        self._turn += 2 * side
        self._starts.append(len(self._times))
        self._hold(there)
        return before + b"],[" + _text(there) + b","

    def _hold(self, point: _Point) -> None:
        self._last = point
        self._times.append(point.time)
        straight = point.longitude + self._turn
        self._west, self._east = min(self._west, straight), max(self._east, straight)
        self._south = min(self._south, point.latitude)
        self._north = max(self._north, point.latitude)

    def end(self) -> bytes:
        """What closes the geometry."""
        return {None: b"", "Point": b"}", "LineString": b"]}"}.get(self._type, b"]]}")

    def bbox(self) -> list[float] | None:
        """West, south, east, north of all that was added; None without a point."""
        if not self._times:
            return None
        if self._east - self._west >= 360:
            return [-180.0, self._south, 180.0, self._north]
        west, east = (_wrapped(degrees) for degrees in (self._west, self._east))
        return [west, self._south, east, self._north]

    def times(self) -> Iterator[bytes]:
        """coordTimes, shaped as the coordinates are."""
        yield b"["
        bounds = [0, *self._starts, len(self._times)]
        for line, (start, end) in enumerate(pairwise(bounds)):
            yield (b"],[" if line else b"[") if self._type == "MultiLineString" else b""
            for at in range(start, end, TIMES_PIECE):
                piece = self._times[at : min(at + TIMES_PIECE, end)]
                yield (b"," if at > start else b"") + _encode(_rfc3339(piece))[1:-1]
        yield b"]]" if self._type == "MultiLineString" else b"]"


def _point(row: RouteWaypoint) -> _Point:
    time = (row.recorded_at - EPOCH) // MICROSECOND
    return _Point(round(row.longitude, DECIMALS), round(row.latitude, DECIMALS), time)


def _beside(point: _Point, other: _Point | None) -> _Point:
    """A longitude of 180 and one of -180 are the same place: the one on the other's side."""
    if other is None or abs(point.longitude) != 180 or point.longitude * other.longitude >= 0:
        return point
    return point._replace(longitude=-point.longitude)


def _cut(last: _Point, point: _Point, side: float) -> tuple[_Point, _Point]:
    """Where the leg meets the antimeridian, seen from both sides."""
    whole = point.longitude + 2 * side - last.longitude
    share = (side - last.longitude) / whole
    latitude = round(last.latitude + share * (point.latitude - last.latitude), DECIMALS)
    time = last.time + round(share * (point.time - last.time))
    return _Point(side, latitude, time), _Point(-side, latitude, time)


def _wrapped(degrees: float) -> float:
    """Into -180 … 180; both of them stay as they are."""
    while degrees > 180:
        degrees -= 360
    while degrees < -180:
        degrees += 360
    return round(degrees, DECIMALS)


def _text(point: _Point) -> bytes:
    return _encode(point[:2])


def _rfc3339(times: Iterable[int]) -> list[str]:
    return [rfc3339(EPOCH + time * MICROSECOND) for time in times]
