"""Reads the points of a GPX track, of any version and from any device; and when to be where.

No point is left out, and nobody drives impossibly fast, whatever the file's times are.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from pathlib import Path

from dev.streets import METRES_PER_DEGREE, Position

# Faster than this, the file's own times or the wanted interval are not believed. The service takes
# up to 500 km/h for a speed.
POSSIBLE_KMH = 400.0
# Where the file tells no time.
PACE_KMH = 40.0
# ... and no faster than receivers measure.
SHORTEST_S = 1.0
# Added to each leg, so that two points at one place have different times, too: at the highest speed
# by more than the millisecond that phones count in.
STANDING_M = 1.0


class GpxError(Exception):
    """The file holds no track that could be driven."""


@dataclass(frozen=True)
class GpxPoint:
    """A point of the file; `recorded_at` is None when the file has no readable time for it."""

    latitude: float
    longitude: float
    recorded_at: datetime | None


def read_gpx(file: Path) -> list[GpxPoint]:
    """Every point of all tracks and segments (of the routes, where there is no track), in order."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - a file of one's own, not of a stranger
        elements = root.findall(".//{*}trkpt") or root.findall(".//{*}rtept")
        points = [_point(element) for element in elements]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise GpxError(f"{file}: {error}") from error
    if len(points) < 2:
        raise GpxError(f"{file}: fewer than two track points")
    return points


def _point(element: ElementTree.Element) -> GpxPoint:
    latitude, longitude = float(element.get("lat", "nan")), float(element.get("lon", "nan"))
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # also refuses NaN
        raise ValueError(f"a point at lat={element.get('lat')} lon={element.get('lon')}")
    return GpxPoint(latitude, longitude, _time(element.findtext("{*}time")))


def _time(text: str | None) -> datetime | None:
    if text is None or not text.strip():
        return None
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    # GPX says UTC; some devices forget the Z.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def seconds_of(points: Sequence[GpxPoint], interval_s: float | None) -> list[float]:
    """When each point is reached, from the first on, ascending.

    With `interval_s`: one point each interval, or later where that is too far. With None: the
    file's own times. A point whose time is missing or cannot be is reached in between, at a
    constant pace; before the first and after the last usable time at PACE_KMH.
    """
    metres = list(accumulate(map(_metres, points[:-1], points[1:]), initial=0.0))
    if interval_s is not None:
        return _paced(metres, POSSIBLE_KMH, interval_s)
    own = _usable_times(points, metres)
    if not own:
        return _paced(metres, PACE_KMH, SHORTEST_S)
    (first, _), (last, last_at) = own[0], own[-1]
    before = _paced([metres[first] - m for m in metres[first::-1]], PACE_KMH, SHORTEST_S)
    after = _paced(metres[last:], PACE_KMH, SHORTEST_S)
    found = [own[0][1] - second for second in before[::-1]]
    for here, there in pairwise(own):
        found += _between(metres, here, there)
    found += [last_at + second for second in after[1:]]
    return [second - found[0] for second in found]


def _paced(metres: Sequence[float], kmh: float, shortest_s: float) -> list[float]:
    """Seconds from the first of these places; `metres` as far as each lies along the track."""
    legs = (max((there - here) / kmh * 3.6, shortest_s) for here, there in pairwise(metres))
    return list(accumulate(legs, initial=0.0))


def _between(
    metres: Sequence[float], here: tuple[int, float], there: tuple[int, float]
) -> list[float]:
    """When each point after `here` and up to `there` is reached, at a constant pace."""
    (first, begin), (last, end) = here, there
    pace = (end - begin) / (metres[last] - metres[first])
    inside = [begin + (metres[i] - metres[first]) * pace for i in range(first + 1, last)]
    return [*inside, end]


def _usable_times(points: Sequence[GpxPoint], metres: Sequence[float]) -> list[tuple[int, float]]:
    """Indexes of points, and their times in seconds: as many as ascend, at a possible speed."""
    times = [(i, p.recorded_at.timestamp()) for i, p in enumerate(points) if p.recorded_at]
    usable: list[tuple[int, float]] = []
    for index, second in _longest_ascending(times):
        if usable:
            before, began = usable[-1]
            if (metres[index] - metres[before]) * 3.6 > POSSIBLE_KMH * (second - began):
                continue
        usable.append((index, second))
    return usable


def _longest_ascending(times: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The most of these whose times ascend: a clock that is wrong for a while loses to the rest."""
    ends: list[float] = []  # the smallest last time of a chain of each length
    chains: list[int] = []  # where in `times` that chain ends
    before: list[int] = []  # the link of each to the one before it
    for position, (_, second) in enumerate(times):
        length = bisect_left(ends, second)
        before.append(chains[length - 1] if length else -1)
        if ends[length : length + 1] == [second]:  # a repeated time is the first one's
            continue
        ends[length : length + 1], chains[length : length + 1] = [second], [position]
    found, position = [], chains[-1] if chains else -1
    while position >= 0:
        found.append(times[position])
        position = before[position]
    return found[::-1]


def _metres(here: GpxPoint, there: GpxPoint) -> float:
    return math.hypot(*_offset(here, there)) + STANDING_M


def positions_of(points: list[GpxPoint], seconds: list[float]) -> list[Position]:
    """The points with speed and heading from one to the next; the last has those before it."""
    positions = []
    for index in range(len(points) - 1):
        here, there = points[index], points[index + 1]
        north, east = _offset(here, there)
        metres, elapsed = math.hypot(north, east), seconds[index + 1] - seconds[index]
        heading = math.degrees(math.atan2(east, north)) % 360.0 if metres > 0.5 else -1.0
        positions.append(Position(here.latitude, here.longitude, metres / elapsed * 3.6, heading))
    last = points[-1]
    return [*positions, positions[-1]._replace(latitude=last.latitude, longitude=last.longitude)]


def _offset(here: GpxPoint, there: GpxPoint) -> tuple[float, float]:
    """Metres north and east from here to there."""
    across = math.remainder(there.longitude - here.longitude, 360.0)  # over the date line
    parallel = METRES_PER_DEGREE * math.cos(math.radians(here.latitude))
    return (there.latitude - here.latitude) * METRES_PER_DEGREE, across * parallel
