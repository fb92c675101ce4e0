"""Facts of bookings, and the trips that they add up to. Part of the ingest transaction."""

import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import BookingEvent, Point
from tracking.domain.routes import Gap, Place
from tracking.domain.tracks import TrackChange
from tracking.domain.trips import Assignment, Trip, owner_of, trip_of
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.ingest.track_state import Announcement, TrackState
from tracking.store.sql import execute_rows, number_array, transaction, uuid_array

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
        "SELECT FROM bookings WHERE booking_id = ANY(%s::uuid[])"
        " ORDER BY booking_id FOR NO KEY UPDATE",
        (uuid_array(booking_ids),),
    )


def load_tracks(
    cursor: Cursor, booking_ids: Collection[UUID], known: TrackCache
) -> dict[UUID, TrackState]:
    """The tracks of these bookings with their assignments, by booking id."""
    tracks = _unchanged(cursor, known.take(booking_ids))
    missing = [booking_id for booking_id in booking_ids if booking_id not in tracks]
    if not missing:
        return tracks
    cursor.execute(
        """
        SELECT t.booking_id, t.id, t.owner_id, t.runner_id, t.status, t.phase, t.started_at,
               t.completed_at, t.head_seq, t.waypoint_count, t.distance_mm, t.last_recorded_at,
               t.last_runner_id, t.last_reported_at, ST_X(t.last_position), ST_Y(t.last_position),
               t.version, t.epoch, t.end_reason IS NOT DISTINCT FROM 'delivered',
               CASE WHEN t.head_seq > t.waypoint_count THEN (
                   SELECT max(w.recorded_at) FROM waypoints w WHERE w.track_id = t.id) END,
               t.announced_id, t.announced_distance_mm, t.announced_completed_at,
               a.runner_id, a.started_at, a.ended_at
        FROM tracks t JOIN assignments a ON a.booking_id = t.booking_id
        WHERE t.booking_id = ANY(%s::uuid[]) ORDER BY a.id
        """,
        (uuid_array(missing),),
    )
    for row in cursor:  # one for each assignment
        track = tracks.get(row[0])
        if track is None:
            track = tracks[row[0]] = _track_state(row)
        track.assignments += (Assignment(*row[23:]),)
    return tracks


def _unchanged(cursor: Cursor, tracks: dict[UUID, TrackState]) -> dict[UUID, TrackState]:
    """Those that no other process has changed, and no restored backup: that changes the epoch."""
    if not tracks:
        return {}
    cursor.execute(
        """
        SELECT v.booking_id
        FROM unnest(%s::uuid[], %s::bigint[], %s::text[]) v (booking_id, version, epoch)
        LEFT JOIN tracks t ON t.booking_id = v.booking_id
        WHERE (t.version, t.epoch) IS DISTINCT FROM (v.version, v.epoch)
        """,
        (
            uuid_array(tracks),
            number_array(track.version for track in tracks.values()),
            [track.epoch for track in tracks.values()],
        ),
    )
    for (booking_id,) in cursor:
        del tracks[booking_id]
    return tracks


def _track_state(row: Sequence[Any]) -> TrackState:
    last = None if row[11] is None else Place(*row[11:16])
    state = TrackState(*row[:11], last, *row[16:18])  # type: ignore[call-arg]
    state.newest, state.end = last, Gap(last, None)
    state.delivered, state.shown_until = row[18:20]
    state.announced = None if row[20] is None else Announcement(*row[20:23])
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
    status, phase, runner_id = (
        (None,) * 3 if old is None else (old.status, old.phase, old.runner_id)
    )
    if (status, phase, runner_id) == (trip.status, trip.phase, trip.runner_id):
        return None
    return TrackChange(
        booking_id,
        uuid4() if old is None else old.id,
        status,
        phase,
        runner_id,
        trip.status,
        trip.phase,
        trip.runner_id,
        trip.owner_id,
        secrets.token_hex(8) if old is None else old.epoch,
        trip.started_at,
        trip.completed_at,
    )


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
            version=0,
            epoch=change.epoch,
        )
    old.owner_id, old.runner_id = trip.owner_id, trip.runner_id
    old.status, old.phase = trip.status, trip.phase
    old.started_at, old.completed_at = trip.started_at, trip.completed_at
    old.delivered = trip.end_reason == "delivered"
    old.assignments = trip.assignments
    old.version += 1
    return old


def _upsert_tracks(
    cursor: Cursor, trips: Mapping[UUID, Trip], tracks: Mapping[UUID, TrackState]
) -> None:
    """The lifecycle columns only: the head belongs to `store.waypoints`."""
    execute_rows(
        cursor,
        """
        INSERT INTO tracks (id, booking_id, epoch, version, booking_number, owner_id, runner_id,
            status, phase, end_reason, started_at, picked_up_at, completed_at, pickup, dropoff)
        VALUES %s
        ON CONFLICT (booking_id) DO UPDATE SET
            booking_number = excluded.booking_number, owner_id = excluded.owner_id,
            runner_id = excluded.runner_id, status = excluded.status, phase = excluded.phase,
            end_reason = excluded.end_reason, started_at = excluded.started_at,
            picked_up_at = excluded.picked_up_at, completed_at = excluded.completed_at,
            pickup = excluded.pickup, dropoff = excluded.dropoff,
            version = excluded.version, settled = false, updated_at = now()
        """,
        [
            (
                tracks[booking_id].id,
                booking_id,
                tracks[booking_id].epoch,
                tracks[booking_id].version,
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
        "(%s, %s, %s, %s, %s, %s::uuid, %s, %s, %s, %s, %s, %s::timestamptz, %s::timestamptz,"
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
