"""Values that pass between the statements of one ingest transaction."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from tracking.events import LocationUpdate
from tracking.routes import Gap, Place
from tracking.trips import GRACE, Assignment


class Announcement(Struct, frozen=True):
    """How a trip ended, as the last outgoing event says."""

    event_id: UUID
    distance_mm: int
    completed_at: datetime


class TrackState(Struct):
    """A track under its booking's lock, and what the batch adds to it."""

    booking_id: UUID
    id: UUID
    owner_id: UUID | None
    runner_id: UUID
    status: str
    phase: str
    started_at: datetime
    completed_at: datetime | None
    head_seq: int
    waypoint_count: int
    distance_mm: int
    last: Place | None  # the newest waypoint of the route
    version: int  # counts the changes of the row
    epoch: str
    delivered: bool = False  # final, unlike every other end
    announced: Announcement | None = None  # since it was last active
    assignments: tuple[Assignment, ...] = ()
    newest: Place | None = None  # like `last`, the batch included
    added: list["Addition"] = field(default_factory=list)
    # The newest row that left the route: the marker was there, and does not go back.
    shown_until: datetime | None = None
    # Where a waypoint falls that is newer than all stored ones; one object, compared by identity.
    end: Gap = Gap(None, None)

    @property
    def begins_at(self) -> datetime:
        """No waypoint of the route is older."""
        return min(assignment.started_at for assignment in self.assignments) - GRACE

    @property
    def ends_at(self) -> datetime | None:
        """No stored waypoint of the route is newer."""
        return None if self.last is None else self.last.recorded_at

    def covers(self, update: LocationUpdate) -> bool:
        for assignment in self.assignments:  # a loop: a generator costs more than what it does
            if assignment.runner_id == update.runner_id and assignment.covers(update.recorded_at):
                return True
        return False


class Addition(Struct, gc=False):
    """A waypoint that the batch adds."""

    update: LocationUpdate
    place: Place
    gap: Gap  # between the stored waypoints
    late: bool  # a newer one was known already, on the route or not


class StoredWaypoint(Struct, frozen=True, gc=False):
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


class TrackChange(Struct, frozen=True):
    """A trip that began, or whose status, phase or runner changed."""

    booking_id: UUID
    track_id: UUID
    old_status: str | None  # None: the trip has just begun
    old_phase: str | None
    old_runner_id: UUID | None
    status: str
    phase: str
    runner_id: UUID
    owner_id: UUID | None
    epoch: str
    started_at: datetime
    completed_at: datetime | None
