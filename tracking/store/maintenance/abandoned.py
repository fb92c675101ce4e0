"""Trips that nobody ended."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from tracking.store.statements import transaction


def abandoned_bookings(engine: sa.Engine) -> list[tuple[UUID, datetime]]:
    """Active trips that nobody ended, and when they ended instead.

    Silent for a day: now. Paid ten minutes ago without a delivery: when it was paid.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT t.booking_id, coalesce(greatest(paid.at, t.started_at), now())
            FROM tracks t
            LEFT JOIN LATERAL (
                SELECT max(f.occurred_at) AS at FROM booking_facts f
                WHERE f.booking_id = t.booking_id AND f.kind = 'paid'
                    AND f.stored_at < now() - interval '10 minutes'
            ) paid ON true
            WHERE t.status = 'active'
                AND (paid.at IS NOT NULL OR t.updated_at < now() - interval '1 day')
            """
        )
        return [(booking_id, at) for booking_id, at in cursor]
