"""Tracks under their bookings' locks: from the cache, or from the table."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from tracking.domain.routes import Gap, Vertex
from tracking.domain.trips import Assignment
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.ingest.track_state import Announcement, TrackState
from tracking.store.sql import number_array, uuid_array
from tracking.store.statements import Statements, prepared


def load_tracks(
    cursor: Statements, booking_ids: Collection[UUID], known: TrackCache
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
               t.shown_until, t.ahead_until,
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
        track.assignments += (Assignment(*row[24:]),)
    return tracks


def _unchanged(cursor: Statements, tracks: dict[UUID, TrackState]) -> dict[UUID, TrackState]:
    """Those that no other process has changed, and no restored backup: that changes the epoch."""
    if not tracks:
        return {}
    cursor.execute(
        _CHANGED,
        (
            uuid_array(tracks),
            number_array(track.version for track in tracks.values()),
            [track.epoch for track in tracks.values()],
        ),
    )
    for (booking_id,) in cursor:
        del tracks[booking_id]
    return tracks


_CHANGED: Final = prepared(
    "changed_tracks",
    """
    SELECT v.booking_id
    FROM unnest(%s::uuid[], %s::bigint[], %s::text[]) v (booking_id, version, epoch)
    LEFT JOIN tracks t ON t.booking_id = v.booking_id
    WHERE (t.version, t.epoch) IS DISTINCT FROM (v.version, v.epoch)
    """,
)


def _track_state(row: Sequence[Any]) -> TrackState:
    last = None if row[11] is None else Vertex(*row[11:16])
    state = TrackState(*row[:11], last, *row[16:18])  # type: ignore[call-arg]
    state.newest, state.end = last, Gap(last, None)
    state.delivered, state.shown_until, state.ahead_until = row[18:21]
    state.announced = None if row[21] is None else Announcement(*row[21:24])
    return state
