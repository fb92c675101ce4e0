"""Distance along a route, kept right while waypoints arrive in any order. Any thread may call."""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from pyproj import Geod

# Karney's geodesics on the ellipsoid of GPS: what PostGIS computes for geography, too.
WGS84: Final = Geod(ellps="WGS84")

# Recorded time first; then runner, reported time, longitude and latitude, by which alone two
# reports of one runner and instant differ.
Order: TypeAlias = tuple[datetime, UUID, datetime, float, float]


class Vertex(NamedTuple):
    """Where a waypoint stands in its route. As a tuple it is its own `Order`."""

    recorded_at: datetime
    runner_id: UUID
    reported_at: datetime
    longitude: float
    latitude: float


class Located(Protocol):
    """What has a place; WGS84 degrees."""

    @property
    def longitude(self) -> float: ...
    @property
    def latitude(self) -> float: ...


class Gap(NamedTuple):
    """Two stored neighbours; None at an end of the route. New waypoints fall into gaps."""

    before: Vertex | None
    after: Vertex | None


def growth_mm(additions: Sequence[tuple[Gap, Sequence[Vertex]]]) -> list[int]:
    """By how much each gap's new waypoints, in route order, lengthen the route."""
    chains = [_chain(gap, vertices) for gap, vertices in additions]
    split = [_chain(gap, ()) if gap.before and gap.after else () for gap, _ in additions]
    return [new - old for new, old in zip(lengths_mm(chains), lengths_mm(split), strict=True)]


def _chain(gap: Gap, vertices: Sequence[Vertex]) -> list[Vertex]:
    before, after = gap
    return [*((before,) if before else ()), *vertices, *((after,) if after else ())]


def lengths_mm(chains: Sequence[Sequence[Located]]) -> list[int]:
    """Each chain's length: a sum of whole millimetres, so that the order of addition can't show."""
    vertices = [*chain.from_iterable(chains)]
    if len(vertices) < 2:
        return [0] * len(chains)
    longitudes = [vertex.longitude for vertex in vertices]
    latitudes = [vertex.latitude for vertex in vertices]
    # One call for all; the legs between the end of one chain and the next are left out below.
    metres = WGS84.inv(longitudes[:-1], latitudes[:-1], longitudes[1:], latitudes[1:])[2]
    millimetres = [round(length * 1000) for length in metres]
    lengths, begin = [], 0
    for each in chains:
        end = begin + len(each)
        lengths.append(sum(millimetres[begin : max(end - 1, begin)]))
        begin = end
    return lengths
