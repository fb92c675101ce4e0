"""All trips that are under way, for those who watch them all."""

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.legs import Leg
from tracking.domain.tracks import ActiveTrip
from tracking.domain.waypoints import StoredWaypoint
from tracking.store.engine import translated
from tracking.store.read.spans import IS_SHOWN
from tracking.store.read.told_arrivals import COLUMNS
from tracking.store.statements import transaction


@translated
def active_trips(engine: sa.Engine, only: Collection[UUID] | None = None) -> list[ActiveTrip]:
    """In one statement: all of them, or those of these bookings, as they are at one moment."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT t.booking_id, t.booking_number, t.phase, t.started_at, t.head_seq, t.distance_mm,
                   t.version, t.id, w.seq, w.runner_id, ST_X(w.position), ST_Y(w.position),
                   w.speed_kmh, w.heading_degrees, w.recorded_at, w.received_at,
                   {", ".join(f"a.{name}" for name in COLUMNS.split(", "))}
            FROM tracks t LEFT JOIN waypoints w ON {IS_SHOWN}
                LEFT JOIN arrivals a ON a.track_id = t.id AND a.way_end =
                    CASE t.phase WHEN 'to_pickup' THEN 'pickup' ELSE 'dropoff' END
            WHERE t.status = 'active' AND (%s OR t.booking_id = ANY(%s::uuid[]))
            """,
            (only is None, [] if only is None else list(only)),
        )
        return [
            ActiveTrip(
                *row[:6],
                None if row[8] is None else StoredWaypoint(row[0], *row[7:16], False),  # type: ignore[call-arg]
                row[6],
                () if row[16] is None else (Leg(*row[16:]),),
            )
            for row in cursor
        ]
