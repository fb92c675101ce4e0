"""A track as others see it: what changed, its state for viewers, its head for requests."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from tracking.domain.legs import Leg
from tracking.domain.seq_runs import Runs
from tracking.domain.waypoints import StoredWaypoint


class TrackChange(Struct, frozen=True, tag="change", array_like=True):
    """A trip that began, or whose status, phase, runner, owner or pickup changed."""

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
    old_picked_up_at: datetime | None = None
    picked_up_at: datetime | None = None
    booking_number: str | None = None

    @property
    def is_visible(self) -> bool:
        """Viewers see it; another owner alone concerns only who may watch, another time of the
        pickup only who watches from there.
        """
        old = self.old_status, self.old_phase, self.old_runner_id
        return old != (self.status, self.phase, self.runner_id)


class LiveState(Struct):
    """A booking as its viewers see it. Before the acceptance there is no track, epoch or phase."""

    booking_id: UUID
    owner_id: UUID | None
    runner_id: UUID | None = None
    track_id: UUID | None = None
    epoch: str | None = None
    status: str = "requested"
    phase: str | None = None
    started_at: datetime | None = None
    head_seq: int = 0
    picked_up_at: datetime | None = None
    last: StoredWaypoint | None = None  # where the marker stands
    completed_at: datetime | None = None
    version: int = 0  # of the track's row, with everything above
    flagged: Runs = []  # waypoints that are left out now
    legs: tuple[Leg, ...] = ()  # what is said of arrivals
    route_expired_at: datetime | None = None  # the waypoints went then, for their age


def change_between(old: LiveState, new: LiveState) -> TrackChange | None:
    """What happened to the track meanwhile; None if nothing that is told did."""
    if new.track_id is None or _said(old) == _said(new):
        return None
    assert new.phase is not None  # a track has all of them
    assert new.runner_id is not None
    assert new.epoch is not None
    assert new.started_at is not None
    return TrackChange(
        new.booking_id, new.track_id, None if old.track_id is None else old.status, old.phase,
        old.runner_id, new.status, new.phase, new.runner_id, new.owner_id, new.epoch,
        new.started_at, new.completed_at, old.picked_up_at, new.picked_up_at,
    )  # fmt: skip


def _said(state: LiveState) -> tuple[object, ...]:
    return state.status, state.phase, state.runner_id, state.owner_id, state.picked_up_at


class ActiveTrip(Struct, frozen=True):
    """A trip that is under way, as those see it who watch all of them."""

    booking_id: UUID
    booking_number: str | None
    phase: str
    started_at: datetime
    head_seq: int
    distance_mm: int
    last: StoredWaypoint | None
    version: int = 0  # of the track's row
    legs: tuple[Leg, ...] = ()  # what is said of the way that the runner is on


class TrackView(Struct, frozen=True):
    """A track with its head, as the API shows it. Distances in millimetres."""

    id: UUID
    booking_id: UUID
    runner_id: UUID
    status: str
    phase: str
    started_at: datetime
    completed_at: datetime | None
    epoch: str
    version: int
    head_seq: int
    waypoint_count: int
    distance_mm: int
    left_out_mm: int  # by how much it is longer with the waypoints that are left out
    left_out: int  # 0: no waypoint is
    last_recorded_at: datetime | None
    picked_up_at: datetime | None
    # Longitude, latitude; None when no event said.
    pickup_lng: float | None
    pickup_lat: float | None
    dropoff_lng: float | None
    dropoff_lat: float | None
    route_expired_at: datetime | None  # the waypoints went then, for their age

    @property
    def reported_mm(self) -> int:
        """The distance of all waypoints."""
        return self.distance_mm + self.left_out_mm
