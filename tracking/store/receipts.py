"""Receipts that were issued: the same settled state has the same one."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct

from tracking.store.engine import translated
from tracking.store.statements import transaction


class Settled(Struct, frozen=True):
    """What maintenance has stored of an ended trip; nothing of it may change without a new receipt.

    `receipt`: the newest one that was issued, of whatever state.
    """

    booking_id: UUID
    booking_number: str | None
    track_id: UUID
    epoch: str
    head_seq: int
    status: str
    started_at: datetime
    completed_at: datetime | None
    distance_m: float
    reported_distance_m: float | None
    duration_s: float
    waypoints: int
    flagged: int | None
    implausible: bool | None
    route_sha256: str | None


class Issued(Struct, frozen=True):
    """A receipt; `number`: 1, 2, … of its trip."""

    number: int
    state: str
    token: str


@translated
def settled_trip(engine: sa.Engine, track_id: UUID) -> Settled | None:
    """None while the trip is under way, or what was stored is of another version of it."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT t.booking_id, t.booking_number, t.id, t.epoch, m.head_seq, t.status,
                t.started_at, t.completed_at, m.distance_m, m.reported_distance_m, m.duration_s,
                m.waypoint_count, m.flagged, m.implausible,
                CASE WHEN m.route_sha256_at = m.updated_at THEN m.route_sha256 END
            FROM tracks t JOIN route_metadata m ON m.track_id = t.id
            WHERE t.id = %s AND t.status <> 'active'
                AND (t.metadata_current OR t.route_expired_at IS NOT NULL)
            """,
            (track_id,),
        )
        row = cursor.fetchone()
    return None if row is None else Settled(*row)


@translated
def newest_receipt(engine: sa.Engine, track_id: UUID) -> Issued | None:
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT number, state, token FROM receipts WHERE track_id = %s"
            " ORDER BY number DESC LIMIT 1",
            (track_id,),
        )
        row = cursor.fetchone()
    return None if row is None else Issued(*row)


@translated
def keep_receipt(engine: sa.Engine, track_id: UUID, receipt: Issued) -> bool:
    """False if somebody else has issued that number, or the trip was erased meanwhile: an erasure
    waits for this, or this for it.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            """
            INSERT INTO receipts (track_id, number, state, token)
            SELECT id, %s, %s, %s FROM tracks WHERE id = %s FOR KEY SHARE
            ON CONFLICT DO NOTHING
            """,
            (receipt.number, receipt.state, receipt.token, track_id),
        )
        return bool(cursor.rowcount)
