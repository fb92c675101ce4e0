"""Everything of a booking goes but its tombstone: one transaction, under its lock."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import psycopg2.extras
import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.erasure import NOBODY
from tracking.domain.times import rfc3339
from tracking.domain.trips import GRACE
from tracking.errors import NotFound, TripActive
from tracking.store.accesses import may_forget
from tracking.store.engine import translated
from tracking.store.sql import interval
from tracking.store.statements import Statements, transaction

# What is deleted, in this order. A new table that names a booking, a track or a person stands here,
# or in `KEPT`: tests/test_erasure.py compares both with the schema.
OF_TRACK: Final = (
    "arrivals", "eta_answers", "published_watermarks", "route_metadata", "receipts", "waypoints",
)  # fmt: skip
OF_BOOKING: Final = ("accesses", "share_links", "outbox", "booking_facts", "assignments", "tracks")
# Tombstones: `bookings` loses its owner, `erased_spans` holds no id of a person.
KEPT: Final = ("bookings", "erased_spans")

# A report without booking id is of the trip's time, whatever else its runner did then.
_PARKED: Final = f"""
    parked_updates p WHERE p.booking_id = %(booking)s OR p.booking_id IS NULL AND EXISTS (
        SELECT FROM assignments a
        WHERE a.booking_id = %(booking)s AND a.runner_id = p.runner_id
            AND a.started_at <= p.recorded_at + {interval(GRACE)}
            AND (a.ended_at IS NULL OR a.ended_at >= p.recorded_at - {interval(GRACE)}))
"""
_WHAT: Final = {
    "parked_updates": _PARKED,  # before the assignments by which they are found
    **{table: f"{table} WHERE track_id = %(track)s" for table in OF_TRACK},
    **{table: f"{table} WHERE booking_id = %(booking)s" for table in OF_BOOKING},
}

# (SHA-256 of a runner's id, from, until) as hexadecimal and RFC 3339.
Span = tuple[str, str, str]


class Erased(Struct, frozen=True):
    """What was, or would be, deleted, by table; nothing of a booking that was erased before."""

    booking_id: UUID
    erased_at: datetime | None  # None: a dry run
    rows: dict[str, int]


@translated
def erase_booking(
    engine: sa.Engine, booking_id: UUID, must_have_ended: bool = False, *, dry_run: bool = False
) -> Erased:
    """Erase it; `must_have_ended`: TripActive also where a trip may still begin, that is, for a
    booking that was neither accepted nor cancelled.

    Raises NotFound for a booking that nothing is known of, TripActive while its trip lasts.

    Ingest waits for it, or it for ingest; whatever comes behind it is refused. Idempotent.
    """
    with transaction(engine, whole=True) as cursor:
        erased_at, track_id, status = _found(cursor, booking_id, dry_run=dry_run)
        if erased_at is not None:
            return Erased(booking_id, erased_at, {})
        if status == "active":
            raise TripActive("the trip is under way: it can be erased once it has ended")
        if must_have_ended and status is None and not _is_cancelled(cursor, booking_id):
            raise TripActive("the trip may still begin: it can be erased once it was cancelled")
        if dry_run:
            return Erased(booking_id, None, _count(cursor, booking_id, track_id))
        spans = _remember_spans(cursor, booking_id)
        rows = _delete(cursor, booking_id, track_id)
        erased_at = _bury(cursor, booking_id, None)
        _tell(cursor, booking_id, erased_at, spans)
    return Erased(booking_id, erased_at, rows)


def erase_again(
    engine: sa.Engine, booking_id: UUID, erased_at: datetime, spans: Collection[Span]
) -> Erased:
    """After a restore: what is known to have been erased, whatever the backup has of it."""
    with transaction(engine, whole=True) as cursor:
        cursor.execute(
            "INSERT INTO bookings (booking_id) VALUES (%s) ON CONFLICT DO NOTHING", (booking_id,)
        )
        _, track_id, _ = _found(cursor, booking_id, dry_run=False)
        _remember_spans(cursor, booking_id)
        for digest, since, until in spans:
            cursor.execute(_ADD_SPAN, (bytes.fromhex(digest), booking_id, since, until))
        rows = _delete(cursor, booking_id, track_id)
        _bury(cursor, booking_id, erased_at)
    return Erased(booking_id, erased_at, rows)


def bookings_of_owner(engine: sa.Engine, owner_id: UUID) -> list[UUID]:
    """All that are not erased, the oldest first."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id FROM bookings WHERE owner_id = %s ORDER BY created_at, booking_id",
            (owner_id,),
        )
        return [booking_id for (booking_id,) in cursor]


def forget_owner(engine: sa.Engine, owner_id: UUID) -> None:
    """Where another booking's facts name him, too, beside its owner. Reads a whole table."""
    with transaction(engine) as cursor:
        cursor.execute("UPDATE booking_facts SET owner_id = NULL WHERE owner_id = %s", (owner_id,))


def forget_statistics(engine: sa.Engine) -> None:
    """The planner keeps values of rows that are gone, ids and places among them, until ANALYZE.

    A sample of each table is read: a second for each partition of waypoints, at most.
    """
    tables = ("parked_updates", *OF_TRACK, *OF_BOOKING, *KEPT)
    with transaction(engine) as cursor:
        cursor.execute(f"ANALYZE {', '.join(tables)}")


def _found(
    cursor: Statements, booking_id: UUID, *, dry_run: bool
) -> tuple[datetime | None, UUID | None, str | None]:
    """When it was erased, its track and how that stands: under the lock, unless nothing is done."""
    lock = "" if dry_run else "FOR UPDATE"
    cursor.execute(f"SELECT erased_at FROM bookings WHERE booking_id = %s {lock}", (booking_id,))
    row = cursor.fetchone()
    if row is None:
        raise NotFound("no such booking")
    # In a statement of its own: it sees what the lock waited for. Locked before anything is
    # deleted: whoever writes metadata locks the track first, too.
    cursor.execute(f"SELECT id, status FROM tracks WHERE booking_id = %s {lock}", (booking_id,))
    track_id, status = cursor.fetchone() or (None, None)
    return row[0], track_id, status


def _is_cancelled(cursor: Statements, booking_id: UUID) -> bool:
    """Of a booking without a track: before anybody accepted it."""
    cursor.execute(
        "SELECT FROM booking_facts WHERE booking_id = %s AND kind = 'cancelled' LIMIT 1",
        (booking_id,),
    )
    return cursor.fetchone() is not None


def _count(cursor: Statements, booking_id: UUID, track_id: UUID | None) -> dict[str, int]:
    rows = {}
    for table, what in _WHAT.items():
        cursor.execute(f"SELECT count(*) FROM {what}", {"booking": booking_id, "track": track_id})
        (rows[table],) = cursor.fetchone() or (0,)
    return rows


def _delete(cursor: Statements, booking_id: UUID, track_id: UUID | None) -> dict[str, int]:
    rows = {}
    may_forget(cursor)
    for table, what in _WHAT.items():
        cursor.execute(f"DELETE FROM {what}", {"booking": booking_id, "track": track_id})
        rows[table] = cursor.rowcount
    return rows


def _remember_spans(cursor: Statements, booking_id: UUID) -> list[Span]:
    """Reports of its runners that name no booking are of this one, whenever they come again."""
    cursor.execute(
        f"""
        INSERT INTO erased_spans (runner_sha256, booking_id, since, until)
        SELECT sha256(uuid_send(runner_id)), booking_id, started_at - {interval(GRACE)},
            coalesce(ended_at, now()) + {interval(GRACE)}
        FROM assignments WHERE booking_id = %s AND runner_id <> %s
        RETURNING encode(runner_sha256, 'hex'), since, until
        """,
        (booking_id, NOBODY),
    )
    return [(digest, rfc3339(since), rfc3339(until)) for digest, since, until in cursor]


_ADD_SPAN: Final = """
    INSERT INTO erased_spans (runner_sha256, booking_id, since, until)
    SELECT v.* FROM (VALUES (%s::bytea, %s::uuid, %s::timestamptz, %s::timestamptz))
        v (runner_sha256, booking_id, since, until)
    WHERE NOT EXISTS (SELECT FROM erased_spans e WHERE (e.runner_sha256, e.booking_id, e.since,
        e.until) = (v.runner_sha256, v.booking_id, v.since, v.until))
"""


def _bury(cursor: Statements, booking_id: UUID, erased_at: datetime | None) -> datetime:
    """By the clock, not by the transaction's begin: other processes look for what is recent."""
    cursor.execute(
        "UPDATE bookings SET owner_id = NULL,"
        " erased_at = coalesce(erased_at, %s, clock_timestamp())"
        " WHERE booking_id = %s RETURNING erased_at",
        (erased_at, booking_id),
    )
    (at,) = cursor.fetchone() or (None,)
    assert at is not None
    return at  # type: ignore[no-any-return]


def _tell(
    cursor: Statements, booking_id: UUID, erased_at: datetime, spans: Collection[Span]
) -> None:
    """To other services, and to whoever restores a backup from before. It has no track."""
    at = rfc3339(erased_at)
    data: dict[str, Any] = {
        "booking_id": str(booking_id),
        "erased_at": at,
        "occurred_at": at,
        "spans": spans,
    }
    cursor.execute(
        "INSERT INTO outbox (event_id, type, booking_id, track_id, after_seq, data)"
        " VALUES (%s, 'tracking.erased', %s, %s, 0, %s)",
        (uuid5(booking_id, f"tracking.erased {at}"), booking_id, booking_id,
         psycopg2.extras.Json(data)),
    )  # fmt: skip
