"""Trips whose routes have to go for their age: which, and everything but their partitions.

Nothing here is half done when a process dies: what is left is found again by the next one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.trips import GRACE
from tracking.store.ingest.bookings import lock_bookings
from tracking.store.maintenance.dropping import bounds
from tracking.store.statements import Statements, transaction

# Bookings that are locked at once: ingest waits for them, some milliseconds each hundred.
AT_ONCE: Final = 200
# Ids in memory.
FOUND_AT_ONCE: Final = 20_000


def floor_of(engine: sa.Engine, cutoff: datetime) -> datetime:
    """A bound of partitions: all trips that began before it ended before `cutoff`.

    ... and have a summary, and have gone out: a trip that is not done with holds back its partition
    and the newer ones.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT min(t.started_at) - %s FROM tracks t
            WHERE t.route_expired_at IS NULL AND (
                t.status = 'active' OR t.completed_at >= %s OR NOT t.metadata_current
                OR EXISTS (SELECT FROM published_watermarks p
                           WHERE p.track_id = t.id AND p.unsent_since IS NOT NULL)
                OR EXISTS (SELECT FROM outbox o  -- it has places
                           WHERE o.track_id = t.id AND o.type = 'tracking.summarized'))
            """,
            (GRACE, cutoff),
        )
        (held,) = cursor.fetchone() or (None,)
        limit = cutoff if held is None else min(held, cutoff)
        month = limit.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return max([month, *(time for each in bounds(cursor) for time in each if time <= limit)])


def is_any_left(engine: sa.Engine, floor: datetime) -> bool:
    """Is there a trip with a route that began before the floor?"""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM tracks WHERE route_expired_at IS NULL AND started_at < %s)",
            (floor + GRACE,),
        )
        (found,) = cursor.fetchone() or (False,)
        return bool(found)


def due_bookings(engine: sa.Engine, floor: datetime) -> list[UUID]:
    """Of trips that began before the floor, at most FOUND_AT_ONCE."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id FROM tracks WHERE route_expired_at IS NULL AND started_at < %s"
            " LIMIT %s",
            (floor + GRACE, FOUND_AT_ONCE),
        )
        return [booking_id for (booking_id,) in cursor]


def expire(
    engine: sa.Engine, booking_ids: Sequence[UUID], cutoff: datetime, floor: datetime
) -> int:
    """Forget where these trips were, apart from the partitions below the floor; how many.

    One transaction under the bookings' locks, so ingest adds nothing behind it. A trip that has
    become active meanwhile, or another one than its summary says, stays.
    """
    with transaction(engine) as cursor:
        lock_bookings(cursor, booking_ids)
        cursor.execute(_TRACKS, (list(booking_ids), cutoff))
        gone = cursor.fetchall()
        _forget(cursor, [row[0] for row in gone], [row[1] for row in gone], floor)
    return len(gone)


_TRACKS: Final = """
    UPDATE tracks SET route_expired_at = now(), version = version + 1, pickup = NULL,
        dropoff = NULL, last_recorded_at = NULL, last_runner_id = NULL, last_reported_at = NULL,
        last_position = NULL, marker_recorded_at = NULL, marker_runner_id = NULL,
        marker_reported_at = NULL, marker_position = NULL
    WHERE booking_id = ANY(%s) AND route_expired_at IS NULL AND status <> 'active'
        AND completed_at < %s AND metadata_current
    RETURNING id, booking_id
"""


def _forget(
    cursor: Statements, track_ids: list[UUID], booking_ids: list[UUID], floor: datetime
) -> None:
    cursor.execute(
        "UPDATE booking_facts SET pickup = NULL, dropoff = NULL WHERE booking_id = ANY(%s)"
        " AND (pickup IS NOT NULL OR dropoff IS NOT NULL)",
        (booking_ids,),
    )
    cursor.execute(
        "UPDATE route_metadata m SET route_expired = true, simplified = NULL, west = NULL,"
        " stops = CASE WHEN m.route_expired THEN m.stops"
        " ELSE jsonb_array_length(m.summary -> 'stops') END,"  # receipts say how many
        " south = NULL, east = NULL, north = NULL, track_version = t.version,"
        " summary = jsonb_set(m.summary, '{stops}', '[]')"  # they have places
        " FROM tracks t WHERE t.id = m.track_id AND m.track_id = ANY(%s)",
        (track_ids,),
    )
    cursor.execute("DELETE FROM parked_updates WHERE booking_id = ANY(%s)", (booking_ids,))
    # What lies below goes with its partition.
    cursor.execute(
        "DELETE FROM waypoints WHERE track_id = ANY(%s) AND recorded_at >= %s", (track_ids, floor)
    )


def forget_requests(engine: sa.Engine, floor: datetime) -> int:
    """Of bookings that were never accepted: where their trips would have begun and ended."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            UPDATE booking_facts f SET pickup = NULL, dropoff = NULL
            WHERE f.occurred_at < %s AND (f.pickup IS NOT NULL OR f.dropoff IS NOT NULL)
                AND NOT EXISTS (SELECT FROM tracks t WHERE t.booking_id = f.booking_id)
            """,
            (floor,),
        )
        return int(cursor.rowcount)
