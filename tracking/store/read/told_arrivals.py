"""What is said of a trip's arrivals."""

from collections import defaultdict
from collections.abc import Collection
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.domain.legs import Leg
from tracking.store.engine import translated
from tracking.store.sql import uuid_array
from tracking.store.statements import transaction

# The columns of a Leg.
COLUMNS: Final = "way_end, state, approaching_at, arrived_at, detected_at, evidence_seq, left_at"


@translated
def arrivals_of(engine: sa.Engine, track_id: UUID) -> list[Leg]:
    """Of the pickup before that of the dropoff; a way of which nothing is said is missing."""
    with transaction(engine) as cursor:
        return legs_of(cursor, [track_id])[track_id]


def legs_of(cursor: Cursor, track_ids: Collection[UUID]) -> dict[UUID, list[Leg]]:
    """Of several tracks."""
    found: dict[UUID, list[Leg]] = defaultdict(list)
    cursor.execute(
        f"SELECT track_id, {COLUMNS} FROM arrivals WHERE track_id = ANY(%s::uuid[])"
        " ORDER BY track_id, way_end DESC",
        (uuid_array(track_ids),),
    )
    for track_id, *leg in cursor:
        found[track_id].append(Leg(*leg))
    return found
