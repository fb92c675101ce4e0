"""The trips that facts add up to: tracks and assignments. Part of the ingest transaction."""

import secrets
from collections.abc import Collection, Mapping
from uuid import UUID, uuid4

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import BookingEvent
from tracking.domain.tracks import TrackChange
from tracking.domain.trips import Assignment, Trip, owner_of, trip_of
from tracking.store.ingest.facts import load_facts
from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import POINT, execute_rows, pair


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
    if old is not None and _said(old) == _said(trip):
        return None
    status, phase, runner_id, picked_up_at = (
        (None,) * 4 if old is None else (old.status, old.phase, old.runner_id, old.picked_up_at)
    )
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
        picked_up_at,
        trip.picked_up_at,
        trip.booking_number,
    )


def _said(trip: Trip | TrackState) -> tuple[object, ...]:
    """What viewers, or who may be one, depend on."""
    return trip.status, trip.phase, trip.runner_id, trip.owner_id, trip.picked_up_at


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
    old.picked_up_at = trip.picked_up_at
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
            version = excluded.version, metadata_current = false, updated_at = now()
        """,
        [_lifecycle(tracks[booking_id], trip) for booking_id, trip in sorted(trips.items())],
        "(%s, %s, %s, %s, %s, %s::uuid, %s, %s, %s, %s, %s, %s::timestamptz, %s::timestamptz,"
        f" {POINT}, {POINT})",
    )


def _lifecycle(track: TrackState, trip: Trip) -> tuple[object, ...]:
    """The values of one row."""
    return (
        track.id,
        track.booking_id,
        track.epoch,
        track.version,
        trip.booking_number,
        trip.owner_id,
        trip.runner_id,
        trip.status,
        trip.phase,
        trip.end_reason,
        trip.started_at,
        trip.picked_up_at,
        trip.completed_at,
        *pair(trip.pickup),
        *pair(trip.dropoff),
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
