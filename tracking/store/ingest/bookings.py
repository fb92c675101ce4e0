"""The bookings that a batch concerns, and their locks."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.domain.trips import GRACE
from tracking.store.sql import execute_rows, interval, uuid_array
from tracking.store.statements import Statements, prepared, transaction


def ensure_bookings(engine: sa.Engine, booking_ids: Collection[UUID]) -> None:
    """Make the rows that will be locked, in a transaction of their own.

    Inserted by the batch itself they would be locks taken out of order, hence deadlocks. A row
    without facts means nothing, so this one need not be durable.
    """
    if not booking_ids:
        return
    with transaction(engine) as cursor:
        cursor.later("SET LOCAL synchronous_commit = off")
        execute_rows(
            cursor,
            "INSERT INTO bookings (booking_id) VALUES %s ON CONFLICT DO NOTHING",
            [(booking_id,) for booking_id in sorted(booking_ids)],
        )


def lock_bookings(cursor: Statements, booking_ids: Collection[UUID]) -> None:
    """Everywhere in this order, in a statement of its own: what follows sees what it waited for."""
    cursor.later(_LOCK, (uuid_array(booking_ids),))


_LOCK: Final = prepared(
    "lock_bookings",
    "SELECT FROM bookings WHERE booking_id = ANY(%s::uuid[]) ORDER BY booking_id FOR NO KEY UPDATE",
)


def bookings_of_runners(cursor: Cursor, spans: Collection[Sequence[Any]]) -> set[UUID]:
    """Bookings that a runner had within a span: rows of (runner_id, first time, last time)."""
    return {
        booking_id
        for (booking_id,) in execute_rows(
            cursor,
            BOOKINGS_OF_RUNNERS,
            spans,
        )
    }


# assignments_runner finds the runner's assignments up to the last time.
BOOKINGS_OF_RUNNERS: Final = f"""
    SELECT DISTINCT a.booking_id
    FROM (VALUES %s) v (runner_id, first_at, last_at)
    JOIN assignments a ON a.runner_id = v.runner_id
        AND a.started_at <= v.last_at + {interval(GRACE)}
        AND (a.ended_at IS NULL OR a.ended_at >= v.first_at - {interval(GRACE)})
"""
