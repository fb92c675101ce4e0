"""Waypoints as they leave the store: committed, missed by a viewer, or part of a route."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from tracking.domain.routes import Order


class StoredWaypoint(Struct, frozen=True, gc=False, tag="waypoint", array_like=True):
    """A committed waypoint, for the viewers. `late` ones belong into the route, not on the map."""

    booking_id: UUID
    track_id: UUID
    seq: int
    runner_id: UUID
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    received_at: datetime
    late: bool


class MissedWaypoint(Struct, frozen=True, gc=False):
    """One waypoint of a backfill; degrees, km/h."""

    seq: int
    latitude: float
    longitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime


class RouteWaypoint(Struct, frozen=True, gc=False):
    """One waypoint of a route; degrees, km/h."""

    seq: int
    runner_id: UUID
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    reported_at: datetime

    @property
    def order(self) -> Order:
        return (
            self.recorded_at,
            self.runner_id,
            self.reported_at,
            self.longitude,
            self.latitude,
        )
