"""`tracking.v1` as a share link's viewers get it: where and when, but not who. Any thread may call.

`backfill`, `freshness` and `heartbeat` name nobody: they are the ones of `protocol`.
"""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from tracking.domain.eta import Eta, NoEta
from tracking.domain.freshness import Freshness
from tracking.domain.seq_runs import Runs
from tracking.domain.shares import is_before_pickup
from tracking.domain.times import rfc3339
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.wire.arrival_message import ArrivalsPart
from tracking.wire.eta_message import EtaPart, eta_part, eta_reason
from tracking.wire.messages import Message, whole_seconds
from tracking.wire.protocol import HEARTBEAT_S, FreshnessPart, frame_of, freshness_part


class SharedPosition(Struct, frozen=True, gc=False):
    """A live position without its runner."""

    booking_id: UUID
    latitude: float
    longitude: float
    speed_kmh: float
    heading_degrees: float
    timestamp: str
    seq: int
    recorded_at: str
    received_at: str
    type: str = "location_update"


class SharedWelcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first message. `waiting`: before the pickup there is nothing to see.

    `started_at` is null through a link that begins with the pickup.
    """

    booking_id: UUID
    epoch: str | None
    seq: int
    status: str
    phase: str | None
    waiting: bool
    freshness: FreshnessPart | None
    last_position: SharedPosition | None
    recovered: bool | None
    heartbeat_s: int
    token_expires_at: str
    flagged: Runs
    arrivals: ArrivalsPart | None
    eta: EtaPart | None
    eta_reason: str | None
    started_at: str | None
    picked_up_at: str | None
    completed_at: str | None
    route_expired_at: str | None


class SharedTrackUpdate(Struct, frozen=True, tag_field="type", tag="track_update"):
    """Status or phase changed, or whether there is something to see."""

    booking_id: UUID
    epoch: str | None
    status: str
    phase: str
    waiting: bool
    old_status: str | None
    old_phase: str | None
    completed_at: str | None
    started_at: str | None
    picked_up_at: str | None


def shared_location_update(waypoint: StoredWaypoint) -> Message:
    """One live position, the same for every viewer of every link."""
    return Message(waypoint.seq, frame_of(shared_position(waypoint)), waypoint.seq)


def shared_position(waypoint: StoredWaypoint) -> SharedPosition:
    return SharedPosition(
        waypoint.booking_id,
        round(waypoint.latitude, 6),
        round(waypoint.longitude, 6),
        waypoint.speed_kmh or 0.0,
        waypoint.heading_degrees or 0.0,
        whole_seconds(waypoint.recorded_at),
        waypoint.seq,
        rfc3339(waypoint.recorded_at),
        rfc3339(waypoint.received_at),
    )


def shared_welcome(
    state: LiveState,
    freshness: Freshness | None,
    *,
    epoch: str | None,
    seq: int,
    waiting: bool,
    last: StoredWaypoint | None,
    recovered: bool | None,
    expires_at: datetime,
    arrivals: ArrivalsPart | None = None,
    eta: Eta | NoEta | None = None,
    started_at: datetime | None = None,
) -> SharedWelcome:
    """What depends on the link comes with it; the rest is the booking's."""
    return SharedWelcome(
        booking_id=state.booking_id,
        epoch=epoch,
        seq=seq,
        status=state.status,
        phase=state.phase,
        waiting=waiting,
        freshness=None if freshness is None else freshness_part(freshness),
        last_position=None if last is None else shared_position(last),
        recovered=recovered,
        heartbeat_s=HEARTBEAT_S,
        token_expires_at=rfc3339(expires_at),
        flagged=[] if waiting else state.flagged,
        arrivals=arrivals,
        eta=eta_part(eta),
        eta_reason=eta_reason(eta),
        started_at=_time(started_at),
        picked_up_at=_picked_up(state.phase, state.picked_up_at),
        completed_at=None if waiting else _time(state.completed_at),
        route_expired_at=None if waiting else _time(state.route_expired_at),
    )


def shared_track_update(
    change: TrackChange, *, epoch: str | None, waiting: bool, started_at: datetime | None = None
) -> SharedTrackUpdate:
    return SharedTrackUpdate(
        booking_id=change.booking_id,
        epoch=epoch,
        status=change.status,
        phase=change.phase,
        waiting=waiting,
        old_status=change.old_status,
        old_phase=change.old_phase,
        completed_at=_time(change.completed_at),
        started_at=_time(started_at),
        picked_up_at=_picked_up(change.phase, change.picked_up_at),
    )


def _picked_up(phase: str | None, at: datetime | None) -> str | None:
    """Another runner may be on the way to it again."""
    return None if is_before_pickup(phase) else _time(at)


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
