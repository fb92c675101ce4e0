"""Facts of bookings: each booking event that was stored. Part of the ingest transaction."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import BookingEvent
from tracking.store.sql import POINT, execute_rows, pair

FactKey: TypeAlias = tuple[UUID, str, datetime, UUID | None]


def fact_key(event: BookingEvent) -> FactKey:
    """What makes two events the same fact; the event's id does not, a producer may renew it."""
    return event.booking_id, event.kind, event.occurred_at, event.runner_id


def insert_facts(cursor: Cursor, events: Collection[BookingEvent]) -> set[FactKey]:
    """Store what is new, and tell it."""
    rows = {fact_key(event): event for event in events}
    return {
        (booking_id, kind, occurred_at, runner_id)
        for booking_id, kind, occurred_at, runner_id in execute_rows(
            cursor,
            "INSERT INTO booking_facts (booking_id, kind, occurred_at, runner_id, owner_id,"
            " booking_number, at, pickup, dropoff) VALUES %s"
            " ON CONFLICT DO NOTHING RETURNING booking_id, kind, occurred_at, runner_id",
            [
                (*key, e.owner_id, e.booking_number, e.at, *pair(e.pickup), *pair(e.dropoff))
                for key, e in rows.items()
            ],
            f"(%s, %s, %s, %s::uuid, %s::uuid, %s, %s::timestamptz, {POINT}, {POINT})",
        )
    }


def load_facts(cursor: Cursor, booking_ids: Collection[UUID]) -> dict[UUID, list[BookingEvent]]:
    cursor.execute(
        """
        SELECT booking_id, kind, occurred_at, runner_id, owner_id, booking_number, at,
               ST_X(pickup), ST_Y(pickup), ST_X(dropoff), ST_Y(dropoff)
        FROM booking_facts WHERE booking_id = ANY(%s)
        """,
        (list(booking_ids),),
    )
    facts: dict[UUID, list[BookingEvent]] = defaultdict(list)
    for *fields, pickup_x, pickup_y, dropoff_x, dropoff_y in cursor:
        pickup = None if pickup_x is None else (pickup_x, pickup_y)
        dropoff = None if dropoff_x is None else (dropoff_x, dropoff_y)
        facts[fields[0]].append(BookingEvent(*fields, pickup, dropoff))  # type: ignore[call-arg]
    return facts


def deliveries(cursor: Cursor, booking_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """When the first delivery of each occurred: not before what the runner's app says of it."""
    if not booking_ids:
        return {}
    cursor.execute(
        "SELECT booking_id, min(occurred_at) FROM booking_facts"
        " WHERE booking_id = ANY(%s) AND kind = 'delivered' GROUP BY booking_id",
        (list(booking_ids),),
    )
    return dict(cursor.fetchall())
