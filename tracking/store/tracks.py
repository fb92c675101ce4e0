"""What requests ask about a track. Raises DatabaseUnavailable when PostgreSQL is away."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct

from tracking.database import translated
from tracking.models import Booking, Track
from tracking.store.rows import StoredWaypoint
from tracking.store.sql import transaction


class BookingAccess(Struct, frozen=True):
    """Who may watch a booking: its owner, and the runner who has it now."""

    booking_id: UUID
    owner_id: UUID | None
    runner_id: UUID | None


class TrackView(Struct, frozen=True):
    """A track with its head, as the API shows it. Distances in millimetres."""

    id: UUID
    booking_id: UUID
    runner_id: UUID
    status: str
    phase: str
    started_at: datetime
    completed_at: datetime | None
    epoch: str
    version: int
    head_seq: int
    waypoint_count: int
    distance_mm: int
    last_recorded_at: datetime | None


_VIEW: Final = [getattr(Track, name) for name in TrackView.__struct_fields__]


@translated
def booking_access(engine: sa.Engine, booking_id: UUID) -> BookingAccess | None:
    """None for a booking that nothing is known of."""
    statement = (
        sa.select(Booking.booking_id, Booking.owner_id, Track.runner_id)
        .outerjoin(Track, Track.booking_id == Booking.booking_id)
        .where(Booking.booking_id == booking_id)
    )
    with engine.connect() as connection:
        row = connection.execute(statement).first()
    return None if row is None else BookingAccess(*row)


@translated
def find_track(engine: sa.Engine, booking_id: UUID) -> TrackView | None:
    """None before the booking was accepted."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(*_VIEW).where(Track.booking_id == booking_id)).first()
    return None if row is None else TrackView(*row)


@translated
def last_position(engine: sa.Engine, booking_id: UUID) -> StoredWaypoint | None:
    """The newest waypoint of the route: where the marker stands."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT t.booking_id, t.id, w.seq, w.runner_id, ST_X(w.position), ST_Y(w.position),
                   w.speed_kmh, w.heading_degrees, w.recorded_at, w.received_at, false
            FROM tracks t JOIN waypoints w ON w.track_id = t.id
                AND w.recorded_at = t.last_recorded_at AND w.runner_id = t.last_runner_id
                AND w.reported_at = t.last_reported_at
            WHERE t.booking_id = %s
            """,
            (booking_id,),
        )
        row: tuple[Any, ...] | None = cursor.fetchone()
    return None if row is None else StoredWaypoint(*row)
