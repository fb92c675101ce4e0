"""`tracking.v1`: what its messages are, both ways. Any thread may call; docs/protocol.md explains.

Each of ours is built once, as the frame that every viewer gets.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from tracking.domain.eta import Eta, NoEta
from tracking.domain.freshness import Freshness
from tracking.domain.seq_runs import Runs
from tracking.domain.times import rfc3339
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.waypoints import MissedWaypoint, StoredWaypoint
from tracking.errors import InvalidRequest
from tracking.wire.arrival_message import ArrivalsPart, arrivals_part
from tracking.wire.eta_message import EtaPart, eta_part, eta_reason
from tracking.wire.messages import LocationUpdateMessage, Message, position, text_frame

SUBPROTOCOL: Final = "tracking.v1"
# A message arrives at least so often; a client that hears nothing for twice as long reconnects.
HEARTBEAT_S: Final = 15
# Above any seq: JSON numbers are exact up to here, in every language.
MAX_SEQ: Final = 1 << 53

_encode = msgspec.json.Encoder().encode


class FreshnessPart(Struct, frozen=True):
    """Of `welcome` and `freshness`."""

    state: str
    reason: str | None
    last_received_at: str | None
    next_expected_at: str | None


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first message: where the trip stands, and whether what was missed will follow."""

    booking_id: UUID
    epoch: str | None
    seq: int
    status: str
    phase: str | None
    runner_id: UUID | None
    freshness: FreshnessPart | None
    last_position: LocationUpdateMessage | None
    recovered: bool | None
    heartbeat_s: int
    token_expires_at: str
    flagged: Runs
    arrivals: ArrivalsPart | None
    eta: EtaPart | None
    eta_reason: str | None


class BackfillPoint(Struct, frozen=True, gc=False):
    """One waypoint that was missed, or came late."""

    seq: int
    latitude: float
    longitude: float
    speed_kmh: float
    heading_degrees: float
    recorded_at: str


class Backfill(Struct, frozen=True, tag_field="type", tag="backfill"):
    """Everything of the route above `after_seq`, up to and with `through_seq`, in seq order.

    A seq between the two without a point has left the route. Without `after_seq` a client that
    sees late points behind a lost position could not tell that gap from such a seq.
    """

    booking_id: UUID
    points: list[BackfillPoint]
    after_seq: int
    through_seq: int
    more: bool


class TrackUpdate(Struct, frozen=True, tag_field="type", tag="track_update"):
    """Status, phase or runner changed; null before the acceptance."""

    booking_id: UUID
    epoch: str
    status: str
    phase: str
    runner_id: UUID
    old_status: str | None
    old_phase: str | None
    old_runner_id: UUID | None
    completed_at: str | None


class Flagged(Struct, frozen=True, tag_field="type", tag="flagged"):
    """All waypoints that are left out of the route now, from seq to seq: also what is pending."""

    booking_id: UUID
    runs: Runs


class FreshnessUpdate(Struct, frozen=True, tag_field="type", tag="freshness"):
    """How old what is seen is, and why."""

    booking_id: UUID
    state: str
    reason: str | None
    last_received_at: str | None
    next_expected_at: str | None


class Heartbeat(Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """The link lives; after a `refresh` at once, with the new token's end."""

    token_expires_at: str


class TokenExpiring(Struct, frozen=True, tag_field="type", tag="token_expiring"):
    """Send a `refresh` before that time, or the socket is closed with 4401."""

    token_expires_at: str


class CatchUp(Struct, frozen=True, tag_field="type", tag="catch_up"):
    """Send what I missed: everything above this seq."""

    since_seq: int


class Refresh(Struct, frozen=True, tag_field="type", tag="refresh"):
    """A new token for the same user."""

    token: str


_decode: Callable[[str | bytes], CatchUp | Refresh] = msgspec.json.Decoder(CatchUp | Refresh).decode


def client_message(text: str | bytes) -> CatchUp | Refresh:
    """Raises InvalidRequest for anything that the protocol does not know."""
    try:
        message = _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidRequest("not a message of tracking.v1") from None
    if isinstance(message, CatchUp) and not 0 <= message.since_seq <= MAX_SEQ:
        raise InvalidRequest("since_seq is out of range")
    return message


def frame_of(message: Struct) -> bytes:
    """Encoded and framed."""
    return text_frame(_encode(message))


def welcome(
    state: LiveState,
    freshness: Freshness | None,
    *,
    recovered: bool | None,
    expires_at: datetime,
    eta: Eta | NoEta | None = None,
) -> Welcome:
    return Welcome(
        booking_id=state.booking_id,
        epoch=state.epoch,
        seq=state.head_seq,
        status=state.status,
        phase=state.phase,
        runner_id=state.runner_id,
        freshness=None if freshness is None else freshness_part(freshness),
        last_position=None if state.last is None else position(state.last),
        recovered=recovered,
        heartbeat_s=HEARTBEAT_S,
        token_expires_at=rfc3339(expires_at),
        flagged=state.flagged,
        arrivals=arrivals_part(state.legs),
        eta=eta_part(eta),
        eta_reason=eta_reason(eta),
    )


def freshness_part(freshness: Freshness) -> FreshnessPart:
    return FreshnessPart(*_freshness(freshness))


def _freshness(freshness: Freshness) -> tuple[str, str | None, str | None, str | None]:
    last, expected = freshness.last_received_at, freshness.next_expected_at
    return (
        freshness.state,
        freshness.reason,
        None if last is None else rfc3339(last),
        None if expected is None else rfc3339(expected),
    )


def freshness_update(booking_id: UUID, freshness: Freshness) -> FreshnessUpdate:
    return FreshnessUpdate(booking_id, *_freshness(freshness))


def track_update(change: TrackChange) -> TrackUpdate:
    at = change.completed_at
    return TrackUpdate(
        booking_id=change.booking_id,
        epoch=change.epoch,
        status=change.status,
        phase=change.phase,
        runner_id=change.runner_id,
        old_status=change.old_status,
        old_phase=change.old_phase,
        old_runner_id=change.old_runner_id,
        completed_at=None if at is None else rfc3339(at),
    )


def backfill(
    booking_id: UUID, points: Sequence[MissedWaypoint | StoredWaypoint],
    after_seq: int, through_seq: int, *, more: bool,
) -> Backfill:  # fmt: skip
    return Backfill(booking_id, [_point(point) for point in points], after_seq, through_seq, more)


def late_waypoints(waypoints: Sequence[StoredWaypoint], since: datetime | None = None) -> Message:
    """Late ones of one track, in seq order without a gap, as its viewers get them.

    What was recorded before `since` is left out; the range is the same, so nobody asks for it.
    """
    first, last = waypoints[0], waypoints[-1]
    shown = [each for each in waypoints if since is None or each.recorded_at >= since]
    message = backfill(first.booking_id, shown, first.seq - 1, last.seq, more=False)
    return Message(last.seq, frame_of(message), first.seq, is_position=False)


def _point(point: Any) -> BackfillPoint:
    return BackfillPoint(
        point.seq,
        round(point.latitude, 6),
        round(point.longitude, 6),
        point.speed_kmh or 0.0,
        point.heading_degrees or 0.0,
        rfc3339(point.recorded_at),
    )
