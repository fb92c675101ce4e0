"""What requests ask about a track. Raises DatabaseUnavailable when PostgreSQL is away."""

from typing import Final
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.access import BookingAccess
from tracking.domain.tracks import TrackView
from tracking.domain.waypoints import StoredWaypoint
from tracking.errors import RouteChanged
from tracking.store.engine import translated
from tracking.store.models import Booking, Track
from tracking.store.read.spans import PLACE, stored_waypoint, waypoint_at
from tracking.store.statements import transaction

_ENDS: Final = {
    "pickup_lng": sa.func.ST_X(Track.pickup),
    "pickup_lat": sa.func.ST_Y(Track.pickup),
    "dropoff_lng": sa.func.ST_X(Track.dropoff),
    "dropoff_lat": sa.func.ST_Y(Track.dropoff),
}
_VIEW: Final = [
    _ENDS[name] if name in _ENDS else getattr(Track, name) for name in TrackView.__struct_fields__
]


@translated
def booking_access(engine: sa.Engine, booking_id: UUID) -> BookingAccess | None:
    """None for a booking that nothing is known of, any more or yet."""
    statement = (
        sa.select(Booking.booking_id, Booking.owner_id, Track.runner_id)
        .outerjoin(Track, Track.booking_id == Booking.booking_id)
        .where(Booking.booking_id == booking_id, Booking.erased_at.is_(None))
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
def track_of_id(engine: sa.Engine, track_id: UUID) -> TrackView:
    """Raises LookupError for a track that is gone."""
    with engine.connect() as connection:
        row = connection.execute(sa.select(*_VIEW).where(Track.id == track_id)).first()
    if row is None:
        raise LookupError(f"no track {track_id}")
    return TrackView(*row)


@translated
def still_there(engine: sa.Engine, track_id: UUID, epoch: str | None) -> None:
    """Raises RouteChanged for a track that is gone, or begun anew: a runner was erased from it."""
    with engine.connect() as connection:
        found = connection.scalar(sa.select(Track.epoch).where(Track.id == track_id))
    if found is None or epoch not in (None, found):
        raise RouteChanged("the trip, or a runner of it, was erased while it was read")


@translated
def last_position(engine: sa.Engine, booking_id: UUID) -> StoredWaypoint | None:
    """The newest waypoint of the route that is OK: where the marker stands."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"SELECT t.id, {PLACE} FROM tracks t"
            " WHERE t.booking_id = %s AND t.last_recorded_at IS NOT NULL",
            (booking_id,),
        )
        row = cursor.fetchone()
        if row is None:
            return None
        track_id, *place = row
        found = waypoint_at(cursor, track_id, tuple(place))
    return None if found is None else stored_waypoint(booking_id, track_id, found)
