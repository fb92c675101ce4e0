"""Lines that are cut where they cross ±180 degrees (RFC 7946, section 3.1.9)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tracking.domain.points import DECIMALS, Numbers, Points, Whole


def sides(points: Points, last: float | None) -> Iterator[tuple[bool, Points]]:
    """Pieces, and whether ±180 degrees lies before each; `last`: the longitude that the first one
    follows. The shorter way from one point to the next is the one that was gone. As it is written:
    half of the world away is on the same side, whatever stands behind the last decimal.
    """
    before = points.longitude[:1] if last is None else np.array([last])
    written = np.round(np.concatenate((before, points.longitude)), DECIMALS)
    across = np.abs(np.diff(written)) > 180
    starts = np.flatnonzero(across).tolist()
    if not starts:  # almost always
        yield False, points
        return
    for start, end in pairwise([0, *starts, points.count]):
        if start < end:
            yield bool(across[start]), points.part(start, end)


class Vertex(NamedTuple):
    """As it is written: rounded degrees, microseconds since 1970."""

    longitude: float
    latitude: float
    time: int


class Part(NamedTuple):
    """What stands in one line. `turn`: degrees by which its longitudes are apart from those of a
    line that is not cut. Both ends may be points of a cut, which nobody recorded.
    """

    longitude: Numbers
    latitude: Numbers
    time: Whole
    turn: float = 0.0
    begins_cut: bool = False
    ends_cut: bool = False


class Cutter:
    """One route, piece by piece. The first part goes on with the line before, each other begins
    a new one.
    """

    def __init__(self) -> None:
        self._last: Vertex | None = None
        self._turn = 0.0

    def parts(self, points: Points) -> list[Part]:
        longitude, latitude = points.rounded()
        west, east = float(longitude.min()), float(longitude.max())
        if self._last is not None:
            west, east = min(west, self._last.longitude), max(east, self._last.longitude)
        if east - west >= 180:
            return self._cut(longitude, latitude, points.recorded_at)
        # Nowhere near a cut: almost always.
        last = longitude[-1], latitude[-1], points.recorded_at[-1]
        self._last = Vertex(float(last[0]), float(last[1]), int(last[2]))
        return [Part(longitude, latitude, points.recorded_at, self._turn)]

    def _cut(self, longitude: Numbers, latitude: Numbers, time: Whole) -> list[Part]:
        rows = zip(longitude.tolist(), latitude.tolist(), time.tolist(), strict=True)
        vertices = [Vertex(*row) for row in rows]
        lines = _Lines(self._turn)
        for number, vertex in enumerate(vertices):
            if self._last is None:
                vertex = _beside(
                    vertex, vertices[number + 1] if number + 1 < len(vertices) else None
                )
            else:
                vertex = _beside(vertex, self._last)
                lines.go(self._last, vertex)
            lines.vertices.append(vertex)
            self._last = vertex
        self._turn = lines.turn
        return lines.parts()


class _Lines:
    """What `Cutter` makes of points of which some may lie on the other side."""

    def __init__(self, turn: float) -> None:
        self.turn = turn
        self.vertices: list[Vertex] = []
        self._begins_cut = False
        self._done: list[Part] = []

    def go(self, last: Vertex, vertex: Vertex) -> None:
        """The leg between two vertices: nothing, or a cut."""
        if abs(vertex.longitude - last.longitude) <= 180:
            return
        side = 180.0 if last.longitude > 0 else -180.0
        here, there = _crossing(last, vertex, side)
        ends_cut = last.longitude != side
        if ends_cut:
            self.vertices.append(here)
        self._end(ends_cut)
        self.turn += 2 * side
        self.vertices = [there]
        self._begins_cut = True

    def parts(self) -> list[Part]:
        self._end(False)
        return self._done

    def _end(self, ends_cut: bool) -> None:
        columns = [*zip(*self.vertices, strict=True)] or [(), (), ()]
        longitude, latitude = (np.array(column, np.float64) for column in columns[:2])
        time = np.array(columns[2], np.int64)
        self._done.append(Part(longitude, latitude, time, self.turn, self._begins_cut, ends_cut))


def _beside(vertex: Vertex, other: Vertex | None) -> Vertex:
    """A longitude of 180 and one of -180 are the same place: the one on the other's side."""
    if other is None or abs(vertex.longitude) != 180 or vertex.longitude * other.longitude >= 0:
        return vertex
    return vertex._replace(longitude=-vertex.longitude)


def _crossing(last: Vertex, vertex: Vertex, side: float) -> tuple[Vertex, Vertex]:
    """Where the leg meets the antimeridian, seen from both sides."""
    whole = vertex.longitude + 2 * side - last.longitude
    share = (side - last.longitude) / whole
    latitude = round(last.latitude + share * (vertex.latitude - last.latitude), DECIMALS)
    time = last.time + round(share * (vertex.time - last.time))
    return Vertex(side, latitude, time), Vertex(-side, latitude, time)


class Bounds:
    """West, south, east and north of parts of one route. West > east across the antimeridian."""

    def __init__(self) -> None:
        self._west = self._south = float("inf")
        self._east = self._north = float("-inf")

    def add(self, part: Part) -> None:
        if not len(part.time):
            return
        self._west = min(self._west, float(part.longitude.min()) + part.turn)
        self._east = max(self._east, float(part.longitude.max()) + part.turn)
        self._south = min(self._south, float(part.latitude.min()))
        self._north = max(self._north, float(part.latitude.max()))

    def bbox(self) -> list[float] | None:
        """As GeoJSON has it (RFC 7946, section 5.2); None without a point."""
        if self._south > self._north:
            return None
        if self._east - self._west >= 360:
            return [-180.0, self._south, 180.0, self._north]
        return [_wrapped(self._west), self._south, _wrapped(self._east), self._north]


def _wrapped(degrees: float) -> float:
    """Into -180 … 180; both of them stay as they are."""
    while degrees > 180:
        degrees -= 360
    while degrees < -180:
        degrees += 360
    return round(degrees, DECIMALS)
