"""Distance along a route, kept right while waypoints arrive in any order. Any thread may call."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from pyproj import Geod

# Karney's geodesics on the ellipsoid of GPS: what PostGIS computes for geography, too.
WGS84: Final = Geod(ellps="WGS84")

Order: TypeAlias = tuple[datetime, UUID, datetime]


class Place(NamedTuple):
    """A waypoint's place in its route: the order first, then where it is (degrees)."""

    recorded_at: datetime
    runner_id: UUID
    reported_at: datetime
    longitude: float
    latitude: float

    @property
    def order(self) -> Order:
        """Recorded time; runner and reported time decide between two of the same instant."""
        return self.recorded_at, self.runner_id, self.reported_at


class Leg(NamedTuple):
    """From one waypoint to the next. `sign` is -1 for a leg that a later waypoint splits."""

    start: Place
    end: Place
    sign: int


class Gap(NamedTuple):
    """Two stored neighbours; None at an end of the route. New waypoints fall into gaps."""

    before: Place | None
    after: Place | None


def new_legs(additions: Iterable[tuple[Gap, Sequence[Place]]]) -> list[Leg]:
    """The legs that new waypoints add and split, each gap's waypoints in route order."""
    legs = []
    for gap, places in additions:
        chain = [p for p in (gap.before, *places, gap.after) if p is not None]
        legs += [Leg(start, end, 1) for start, end in pairwise(chain)]
        if gap.before is not None and gap.after is not None:
            legs.append(Leg(gap.before, gap.after, -1))
    return legs


def lengths_mm(legs: Sequence[Leg]) -> list[int]:
    """Each leg's length in whole millimetres, so that the order of addition cannot show."""
    if not legs:
        return []
    metres = WGS84.inv(
        [leg.start.longitude for leg in legs],
        [leg.start.latitude for leg in legs],
        [leg.end.longitude for leg in legs],
        [leg.end.latitude for leg in legs],
    )[2]
    return [leg.sign * round(length * 1000) for leg, length in zip(legs, metres, strict=True)]
