"""Facts of bookings: each booking event that was stored. Part of the ingest transaction."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

from msgspec.structs import replace
from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import CLOCK_TOLERANCE, BookingEvent
from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import POINT, execute_rows, interval, pair

FactKey: TypeAlias = tuple[UUID, str, datetime, UUID | None]


def fact_key(event: BookingEvent) -> FactKey:
    """What makes two events the same fact; the event's id does not, a producer may renew it."""
    return event.booking_id, event.kind, event.occurred_at, event.runner_id


class Learned(NamedTuple):
    """Keys of facts that are new, and bookings whose trips may be others than before."""

    new: set[FactKey]
    booking_ids: set[UUID]


def insert_facts(cursor: Cursor, events: Collection[BookingEvent]) -> Learned:
    """Store what is new.

    A copy that Kafka got earlier bounds the fact's time: the least of all counts, in any order.
    """
    rows: dict[FactKey, BookingEvent] = {}
    for event in events:
        known = rows.setdefault(fact_key(event), event)
        if event.believed_at < known.believed_at:
            rows[fact_key(event)] = event
    found = execute_rows(
        cursor,
        f"""
        INSERT INTO booking_facts (booking_id, kind, occurred_at, runner_id, owner_id,
            booking_number, at, heard_at, pickup, dropoff) VALUES %s
        ON CONFLICT ON CONSTRAINT booking_facts_key DO UPDATE SET heard_at = excluded.heard_at
        WHERE excluded.heard_at < booking_facts.heard_at
          AND excluded.heard_at < booking_facts.occurred_at - {interval(CLOCK_TOLERANCE)}
        RETURNING booking_id, kind, occurred_at, runner_id, xmax = 0
        """,
        [
            (
                *key,
                e.owner_id,
                e.booking_number,
                e.at,
                e.heard_at,
                *pair(e.pickup),
                *pair(e.dropoff),
            )
            for key, e in sorted(rows.items(), key=lambda item: str(item[0]))
        ],
        f"(%s, %s, %s, %s::uuid, %s::uuid, %s, %s::timestamptz, %s::timestamptz, {POINT}, {POINT})",
    )
    new = {(booking_id, *rest) for booking_id, *rest, is_new in found if is_new}
    return Learned(new, {row[0] for row in found})


def without_places(
    events: Sequence[BookingEvent], tracks: Mapping[UUID, TrackState]
) -> list[BookingEvent]:
    """A trip whose route has gone for its age does not get back where it began and ended."""
    return [
        replace(e, pickup=None, dropoff=None)
        if e.booking_id in tracks and tracks[e.booking_id].route_expired
        else e
        for e in events
    ]


def load_facts(cursor: Cursor, booking_ids: Collection[UUID]) -> dict[UUID, list[BookingEvent]]:
    cursor.execute(
        """
        SELECT booking_id, kind, occurred_at, runner_id, owner_id, booking_number, at,
               ST_X(pickup), ST_Y(pickup), ST_X(dropoff), ST_Y(dropoff), heard_at
        FROM booking_facts WHERE booking_id = ANY(%s)
        """,
        (list(booking_ids),),
    )
    facts: dict[UUID, list[BookingEvent]] = defaultdict(list)
    for *fields, pickup_x, pickup_y, dropoff_x, dropoff_y, heard_at in cursor:
        pickup = None if pickup_x is None else (pickup_x, pickup_y)
        dropoff = None if dropoff_x is None else (dropoff_x, dropoff_y)
        fact = BookingEvent(*fields, pickup, dropoff, heard_at)  # type: ignore[call-arg]
        facts[fields[0]].append(fact)
    return facts


def deliveries(cursor: Cursor, booking_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """When the first delivery of each occurred: not before what the runner's app says of it."""
    if not booking_ids:
        return {}
    cursor.execute(
        f"SELECT booking_id, min(least(occurred_at, heard_at + {interval(CLOCK_TOLERANCE)}))"
        " FROM booking_facts"
        " WHERE booking_id = ANY(%s) AND kind = 'delivered' GROUP BY booking_id",
        (list(booking_ids),),
    )
    return dict(cursor.fetchall())
