"""What ETAs are computed from, and where trips go."""

from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.eta import History, Sample
from tracking.domain.trip_eta import Ends, Place, Samples
from tracking.store.engine import translated
from tracking.store.sql import uuid_array
from tracking.store.statements import transaction


@translated
def read_samples(engine: sa.Engine, known: Samples) -> Samples:
    """`known` itself if nothing was added. Some thousand rows at most: 10 ms."""
    with transaction(engine) as cursor:
        cursor.execute("SELECT coalesce(max(id), 0), count(*) FROM eta_samples")
        newest, count = cursor.fetchone() or (0, 0)
        if (newest, count) == (known.newest, known.count):
            return known
        cursor.execute(
            "SELECT phase, metres, seconds, router_seconds, router_took_seconds"
            " FROM eta_samples ORDER BY id"
        )
        history = History()
        for row in cursor:
            history.add(Sample(*row))
    return Samples(newest, count, history)


@translated
def ends_of(engine: sa.Engine, booking_ids: Collection[UUID]) -> dict[UUID, Ends]:
    """Of the bookings that have a track."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id, ST_X(pickup), ST_Y(pickup), ST_X(dropoff), ST_Y(dropoff)"
            " FROM tracks WHERE booking_id = ANY(%s::uuid[])",
            (uuid_array(booking_ids),),
        )
        return {row[0]: Ends(_place(row[1:3]), _place(row[3:5])) for row in cursor}


def _place(pair: tuple[float | None, ...]) -> Place | None:
    longitude, latitude = pair
    return None if longitude is None or latitude is None else (longitude, latitude)
