"""Facts of bookings, and the trips that they add up to. Part of the ingest transaction."""

import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.events import BookingEvent, Point
from tracking.routes import Gap, Place
from tracking.store.rows import Announcement, TrackChange, TrackState
from tracking.store.sql import execute_rows, transaction
from tracking.trips import Assignment, Trip, owner_of, trip_of

FactKey: TypeAlias = tuple[UUID, str, datetime, UUID | None]

_POINT: Final = "ST_SetSRID(ST_MakePoint(%s, %s), 4326)"


def ensure_bookings(engine: sa.Engine, booking_ids: Collection[UUID]) -> None:
    """Make the rows that will be locked, in a transaction of their own.

    Inserted by the batch itself they would be locks taken out of order, hence deadlocks. A row
    without facts means nothing, so this one need not be durable.
    """
    if not booking_ids:
        return
    with transaction(engine) as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        execute_rows(
            cursor,
            "INSERT INTO bookings (booking_id) VALUES %s ON CONFLICT DO NOTHING",
            [(booking_id,) for booking_id in sorted(booking_ids)],
        )


def lock_bookings(cursor: Cursor, booking_ids: Collection[UUID]) -> None:
    """Everywhere in this order, in a statement of its own: what follows sees what it waited for."""
    cursor.execute(
        "SELECT FROM bookings WHERE booking_id = ANY(%s) ORDER BY booking_id FOR NO KEY UPDATE",
        (list(booking_ids),),
    )


def load_tracks(cursor: Cursor, booking_ids: Collection[UUID]) -> dict[UUID, TrackState]:
    """The tracks of these bookings with their assignments, by booking id."""
    cursor.execute(
        """
        SELECT booking_id, id, owner_id, runner_id, status, phase, started_at, completed_at,
               head_seq, waypoint_count, distance_mm, last_recorded_at, last_runner_id,
               last_reported_at, ST_X(last_position), ST_Y(last_position),
               end_reason IS NOT DISTINCT FROM 'delivered', announced_id,
               announced_distance_mm, announced_completed_at
        FROM tracks WHERE booking_id = ANY(%s)
        """,
        (list(booking_ids),),
    )
    tracks = {row[0]: _track_state(row) for row in cursor}
    for booking_id, assignments in load_assignments(cursor, tracks).items():
        tracks[booking_id].assignments = assignments
    return tracks


def load_assignments(
    cursor: Cursor, booking_ids: Collection[UUID]
) -> dict[UUID, tuple[Assignment, ...]]:
    cursor.execute(
        "SELECT booking_id, runner_id, started_at, ended_at FROM assignments"
        " WHERE booking_id = ANY(%s) ORDER BY id",
        (list(booking_ids),),
    )
    found: dict[UUID, tuple[Assignment, ...]] = defaultdict(tuple)
    for booking_id, *assignment in cursor:
        found[booking_id] += (Assignment(*assignment),)
    return found


def _track_state(row: Sequence[Any]) -> TrackState:
    last = None if row[11] is None else Place(*row[11:16])
    state = TrackState(*row[:11], last)  # type: ignore[call-arg]
    state.newest, state.delivered, state.end = last, row[16], Gap(last, None)
    state.announced = None if row[17] is None else Announcement(*row[17:])
    return state


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
                (*key, e.owner_id, e.booking_number, e.at, *_pair(e.pickup), *_pair(e.dropoff))
                for key, e in rows.items()
            ],
            f"(%s, %s, %s, %s::uuid, %s::uuid, %s, %s::timestamptz, {_POINT}, {_POINT})",
        )
    }


def _pair(point: Point | None) -> tuple[float | None, float | None]:
    return point if point is not None else (None, None)


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


def write_trips(
    cursor: Cursor, booking_ids: Collection[UUID], tracks: dict[UUID, TrackState]
) -> tuple[list[TrackChange], set[UUID]]:
    """Compute the trips of these bookings anew and write what changed.

    Updates `tracks`; gives the changes, and the bookings whose assignments are not what they were.
    """
    if not booking_ids:
        return [], set()
    facts = load_facts(cursor, booking_ids)
    _write_owners(cursor, facts)
    trips = {b: trip for b, known in facts.items() if (trip := trip_of(known)) is not None}
    moved = {
        b for b, t in trips.items() if b not in tracks or tracks[b].assignments != t.assignments
    }
    changes = []
    for booking_id, trip in sorted(trips.items()):
        change = _change(booking_id, tracks.get(booking_id), trip)
        tracks[booking_id] = _updated(booking_id, tracks.get(booking_id), trip, change)
        if change is not None:
            changes.append(change)
    _upsert_tracks(cursor, trips, tracks)
    _replace_assignments(cursor, {b: trips[b].assignments for b in moved})
    return changes, moved


def _write_owners(cursor: Cursor, facts: Mapping[UUID, Collection[BookingEvent]]) -> None:
    owners = [(b, owner) for b, known in facts.items() if (owner := owner_of(known)) is not None]
    execute_rows(
        cursor,
        "UPDATE bookings SET owner_id = v.owner_id FROM (VALUES %s) v (booking_id, owner_id)"
        " WHERE bookings.booking_id = v.booking_id"
        " AND bookings.owner_id IS DISTINCT FROM v.owner_id",
        owners,
    )


def _change(booking_id: UUID, old: TrackState | None, trip: Trip) -> TrackChange | None:
    new = (trip.status, trip.phase, trip.runner_id)
    if old is None:
        return TrackChange(booking_id, uuid4(), None, None, None, *new)
    if (old.status, old.phase, old.runner_id) == new:
        return None
    return TrackChange(booking_id, old.id, old.status, old.phase, old.runner_id, *new)


def _updated(
    booking_id: UUID, old: TrackState | None, trip: Trip, change: TrackChange | None
) -> TrackState:
    if old is None:
        assert change is not None
        old = TrackState(
            booking_id,
            change.track_id,
            trip.owner_id,
            trip.runner_id,
            trip.status,
            trip.phase,
            trip.started_at,
            trip.completed_at,
            head_seq=0,
            waypoint_count=0,
            distance_mm=0,
            last=None,
        )
    old.owner_id, old.runner_id = trip.owner_id, trip.runner_id
    old.status, old.phase = trip.status, trip.phase
    old.started_at, old.completed_at = trip.started_at, trip.completed_at
    old.delivered = trip.end_reason == "delivered"
    old.assignments = trip.assignments
    return old


def _upsert_tracks(
    cursor: Cursor, trips: Mapping[UUID, Trip], tracks: Mapping[UUID, TrackState]
) -> None:
    """The lifecycle columns only: the head belongs to `store.waypoints`."""
    execute_rows(
        cursor,
        """
        INSERT INTO tracks (id, booking_id, epoch, booking_number, owner_id, runner_id, status,
            phase, end_reason, started_at, picked_up_at, completed_at, pickup, dropoff)
        VALUES %s
        ON CONFLICT (booking_id) DO UPDATE SET
            booking_number = excluded.booking_number, owner_id = excluded.owner_id,
            runner_id = excluded.runner_id, status = excluded.status, phase = excluded.phase,
            end_reason = excluded.end_reason, started_at = excluded.started_at,
            picked_up_at = excluded.picked_up_at, completed_at = excluded.completed_at,
            pickup = excluded.pickup, dropoff = excluded.dropoff,
            version = tracks.version + 1, settled = false, updated_at = now()
        """,
        [
            (
                tracks[booking_id].id,
                booking_id,
                secrets.token_hex(8),
                trip.booking_number,
                trip.owner_id,
                trip.runner_id,
                trip.status,
                trip.phase,
                trip.end_reason,
                trip.started_at,
                trip.picked_up_at,
                trip.completed_at,
                *_pair(trip.pickup),
                *_pair(trip.dropoff),
            )
            for booking_id, trip in sorted(trips.items())
        ],
        "(%s, %s, %s, %s, %s::uuid, %s, %s, %s, %s, %s, %s::timestamptz, %s::timestamptz,"
        f" {_POINT}, {_POINT})",
    )


def _replace_assignments(
    cursor: Cursor, assignments: Mapping[UUID, tuple[Assignment, ...]]
) -> None:
    cursor.execute("DELETE FROM assignments WHERE booking_id = ANY(%s)", (list(assignments),))
    execute_rows(
        cursor,
        "INSERT INTO assignments (booking_id, runner_id, started_at, ended_at) VALUES %s",
        [
            (b, a.runner_id, a.started_at, a.ended_at)
            for b, all_ in assignments.items()
            for a in all_
        ],
    )


def bookings_of_runners(cursor: Cursor, spans: Collection[Sequence[Any]]) -> set[UUID]:
    """Bookings that a runner had within a span: rows of (runner_id, first time, last time)."""
    return {
        booking_id
        for (booking_id,) in execute_rows(
            cursor,
            """
            SELECT DISTINCT a.booking_id
            FROM (VALUES %s) v (runner_id, first_at, last_at)
            JOIN assignments a ON a.runner_id = v.runner_id
                AND a.started_at - interval '1 minute' <= v.last_at
                AND (a.ended_at IS NULL OR a.ended_at + interval '1 minute' >= v.first_at)
            """,
            spans,
        )
    }
