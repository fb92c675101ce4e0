"""Reads the points of a GPX track, of any version and from any device."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dev.streets import METRES_PER_DEGREE, Position


class GpxError(Exception):
    """The file holds no track that could be driven."""


@dataclass(frozen=True)
class GpxPoint:
    """A point of the file; `recorded_at` is None when the file has no time for it."""

    latitude: float
    longitude: float
    recorded_at: datetime | None


def read_gpx(file: Path) -> list[GpxPoint]:
    """Every point of all tracks and segments (of the routes, where there is no track), in order.

    The track's own times are kept only if every point has one and they ascend;
    a point with the time of the one before it is dropped.
    """
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - a file of one's own, not of a stranger
        elements = root.findall(".//{*}trkpt") or root.findall(".//{*}rtept")
        points = [_point(element) for element in elements]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise GpxError(f"{file}: {error}") from error
    if len(points) < 2:
        raise GpxError(f"{file}: fewer than two track points")
    return _in_time(points)


def _point(element: ElementTree.Element) -> GpxPoint:
    latitude, longitude = float(element.get("lat", "nan")), float(element.get("lon", "nan"))
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # also refuses NaN
        raise ValueError(f"a point at lat={element.get('lat')} lon={element.get('lon')}")
    return GpxPoint(latitude, longitude, _time(element.findtext("{*}time")))


def _time(text: str | None) -> datetime | None:
    if text is None or not text.strip():
        return None
    parsed = datetime.fromisoformat(text.strip())
    # GPX says UTC; some devices forget the Z.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _in_time(points: list[GpxPoint]) -> list[GpxPoint]:
    kept = points[:1]
    for point in points[1:]:
        last = kept[-1].recorded_at
        if last is None or point.recorded_at is None or point.recorded_at < last:
            return [GpxPoint(each.latitude, each.longitude, None) for each in points]
        if point.recorded_at > last:
            kept.append(point)
    if len(kept) < 2:
        return [GpxPoint(each.latitude, each.longitude, None) for each in points]
    return kept


def seconds_of(points: list[GpxPoint], interval_s: float | None) -> list[float]:
    """When each point is reached, from the first on.

    `interval_s` None means the file's own times; a file without them is driven
    at one point every five seconds, as phones send.
    """
    first = points[0].recorded_at
    if interval_s is None and first is not None:
        return [
            (point.recorded_at - first).total_seconds() for point in points if point.recorded_at
        ]
    return [index * (interval_s or 5.0) for index in range(len(points))]


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
