"""`tracking.approaching`, `tracking.arrived` and `tracking.left`, as rows of the outbox.

They go out behind the positions that were known when they were written.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

import psycopg2.extras
from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.domain.legs import LATE_S, Leg
from tracking.domain.times import rfc3339
from tracking.store.sql import execute_rows


class Subject(Struct, frozen=True):
    """Whose arrival it is."""

    track_id: UUID
    booking_id: UUID
    runner_id: UUID
    owner_id: UUID | None
    head_seq: int


class ArrivalEvent(Struct, frozen=True):
    """One event: its row in the outbox."""

    id: UUID
    type: str
    subject: Subject
    data: dict[str, object]


def approaching(subject: Subject, leg: Leg, evidence_seq: int | None) -> ArrivalEvent:
    """Once for each way."""
    assert leg.approaching_at is not None
    at = rfc3339(leg.approaching_at)
    data: dict[str, object] = {"recorded_at": at, "evidence_seq": evidence_seq, "occurred_at": at}
    return _event("tracking.approaching", subject, leg, data, at)


def arrived(subject: Subject, leg: Leg, replaces: UUID | None) -> ArrivalEvent:
    """Also a correction of what was told before."""
    assert leg.arrived_at is not None
    assert leg.detected_at is not None
    at, detected = rfc3339(leg.arrived_at), rfc3339(leg.detected_at)
    data: dict[str, object] = {
        "arrived_at": at,
        "detected_at": detected,
        "evidence_seq": leg.evidence_seq,
        "late": (leg.detected_at - leg.arrived_at).total_seconds() > LATE_S,
        "replaces": replaces and str(replaces),
        "occurred_at": at,
    }
    return _event("tracking.arrived", subject, leg, data, f"{at} {detected}")


def left(
    subject: Subject, leg: Leg, before: Leg, replaces: UUID | None, now: datetime
) -> ArrivalEvent:
    """The arrival does not stand any more. Without `left_at` it was none: it is withdrawn."""
    assert before.arrived_at is not None
    left_at = None if leg.left_at is None else rfc3339(leg.left_at)
    data: dict[str, object] = {
        "arrived_at": rfc3339(before.arrived_at),
        "left_at": left_at,
        "withdrawn": left_at is None,
        "replaces": replaces and str(replaces),
        "occurred_at": left_at or rfc3339(now),
    }
    return _event("tracking.left", subject, leg, data, f"{replaces} {left_at}")


def _event(
    type_: str, subject: Subject, leg: Leg, data: dict[str, object], key: str
) -> ArrivalEvent:
    identity = {
        "track_id": str(subject.track_id),
        "booking_id": str(subject.booking_id),
        "runner_id": str(subject.runner_id),
        "owner_id": None if subject.owner_id is None else str(subject.owner_id),
        "point": leg.end,
    }
    event_id = uuid5(subject.track_id, f"{type_} {leg.end} {key}")
    return ArrivalEvent(event_id, type_, subject, identity | data)


def write_arrival_events(cursor: Cursor, events: Sequence[ArrivalEvent]) -> None:
    """In the transaction that stores what was said."""
    execute_rows(
        cursor,
        "INSERT INTO outbox (event_id, type, booking_id, track_id, after_seq, data) VALUES %s",
        [
            (e.id, e.type, e.subject.booking_id, e.subject.track_id, e.subject.head_seq,
             psycopg2.extras.Json(e.data))
            for e in events
        ],
    )  # fmt: skip
