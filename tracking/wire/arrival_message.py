"""What is said of arrivals, in answers, messages and events. Any thread may call."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from tracking.domain.legs import Leg
from tracking.domain.times import rfc3339


class ArrivalPart(Struct, frozen=True):
    """Of one way; `state`: en_route, approaching, arrived."""

    state: str
    approaching_at: str | None
    arrived_at: str | None
    detected_at: str | None
    evidence_seq: int | None
    left_at: str | None


class ArrivalsPart(Struct, frozen=True):
    """Null where nothing is said yet."""

    pickup: ArrivalPart | None = None
    dropoff: ArrivalPart | None = None


class ArrivalMessage(Struct, frozen=True, tag_field="type", tag="arrival"):
    """What is said of the ways has changed; both, as they are now."""

    booking_id: UUID
    arrivals: ArrivalsPart


def arrivals_part(legs: Iterable[Leg]) -> ArrivalsPart:
    parts = {leg.end: _part(leg) for leg in legs}
    return ArrivalsPart(parts.get("pickup"), parts.get("dropoff"))


def _part(leg: Leg) -> ArrivalPart:
    return ArrivalPart(
        leg.state, _text(leg.approaching_at), _text(leg.arrived_at), _text(leg.detected_at),
        leg.evidence_seq, _text(leg.left_at),
    )  # fmt: skip


def _text(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)
