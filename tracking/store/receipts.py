"""Receipts that were issued: the same settled state has the same one."""

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.summary import Summary
from tracking.store.engine import translated
from tracking.store.statements import transaction


class Sums(Struct, frozen=True):
    """As the summary has them; all None of a route that is too long for one. `stops`, `gaps`: how
    many; the number of stops outlives their places.
    """

    recorded_s: float | None = None
    moving_s: float | None = None
    standing_s: float | None = None
    unknown_s: float | None = None
    coverage: float | None = None
    longest_gap_s: float | None = None
    stops: int | None = None
    gaps: int | None = None


class Settled(Struct, frozen=True):
    """What maintenance has stored of an ended trip; nothing of it may change without a new receipt,
    except that one which was issued before there were `sums` stays.
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
    sums: Sums


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
                CASE WHEN m.route_sha256_at = m.updated_at THEN m.route_sha256 END,
                CASE WHEN m.track_version = t.version OR m.route_expired THEN m.summary::text END,
                CASE WHEN m.route_expired THEN m.stops
                    ELSE jsonb_array_length(m.summary -> 'stops') END
            FROM tracks t JOIN route_metadata m ON m.track_id = t.id
            WHERE t.id = %s AND t.status <> 'active'
                AND (t.metadata_current OR t.route_expired_at IS NOT NULL)
            """,
            (track_id,),
        )
        row = cursor.fetchone()
    if row is None:
        return None
    *settled, summary, stops = row
    settled.append(Sums() if summary is None else _sums(summary, stops))
    return Settled(*settled)


def _sums(text: str, stops: int | None) -> Sums:
    summary = msgspec.json.decode(text, type=Summary)
    times, coverage = summary.times, summary.record.coverage
    return Sums(
        round(times.recorded_s, 6),
        round(times.moving_s, 6),
        round(times.standing_s, 6),
        round(times.unknown_s, 6),
        None if coverage is None else round(coverage, 4),
        summary.longest_gap_s,
        stops,
        len(summary.gaps),
    )


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
