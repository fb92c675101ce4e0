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
    """The tracks of these bookings with their assignments, by booking id.

    While no other process writes them, what is known is taken as it is, and is compared in the same
    message as what follows: a round trip less. If it was changed after all, that message raises
    what `is_outdated` knows; nothing is written, and a second call reads the table.
    """
    tracks = _known(cursor, booking_ids, known)
    missing = [booking_id for booking_id in booking_ids if booking_id not in tracks]
    if missing:
        cursor.execute(_TRACKS, (uuid_array(missing),))
        for row in cursor:  # one for each assignment
            track = tracks.get(row[0])
            if track is None:
                track = tracks[row[0]] = _track_state(row)
            track.assignments += (Assignment(*row[38:]),)
    return tracks


_TRACKS: Final = """
    SELECT t.booking_id, t.id, t.owner_id, t.runner_id, t.status, t.phase, t.started_at,
           t.completed_at, t.head_seq, t.waypoint_count, t.distance_mm, t.last_recorded_at,
           t.last_runner_id, t.last_reported_at, ST_X(t.last_position), ST_Y(t.last_position),
           t.version, t.epoch, t.end_reason IS NOT DISTINCT FROM 'delivered',
           t.shown_until, t.ahead_until,
           t.announced_id, t.announced_distance_mm, t.announced_completed_at,
           t.picked_up_at, t.route_expired_at IS NOT NULL, t.judged_seq = t.head_seq,
           t.left_out, t.left_out_mm, t.marker_recorded_at, t.marker_runner_id,
           t.marker_reported_at, ST_X(t.marker_position), ST_Y(t.marker_position),
           t.announced_started_at, t.announced_waypoints, t.announced_reported_mm,
           t.announced_whole_id = t.announced_id,
           a.runner_id, a.started_at, a.ended_at
    FROM tracks t JOIN assignments a ON a.booking_id = t.booking_id
    WHERE t.booking_id = ANY(%s::uuid[]) ORDER BY a.id
"""


def _known(
    cursor: Statements, booking_ids: Collection[UUID], cache: TrackCache
) -> dict[UUID, TrackState]:
    """Those of the cache that are as the table has them, or that are compared on the way."""
    tracks = cache.take(booking_ids)
    if not tracks:
        return {}
    if len(tracks) == len(booking_ids) and cache.is_only_writer:
        cursor.later(_SAME, _versions(tracks))
        return tracks
    changed = _changed(cursor, tracks)
    if changed:
        cache.note_other_writer()
    return {booking_id: t for booking_id, t in tracks.items() if booking_id not in changed}


def _changed(cursor: Statements, tracks: dict[UUID, TrackState]) -> set[UUID]:
    """Those that another process has changed, or a restored backup: that changes the epoch."""
    cursor.execute(_CHANGED, _versions(tracks))
    return {booking_id for (booking_id,) in cursor}


def is_outdated(error: Exception) -> bool:
    """Was a track that the cache knew changed by somebody else?"""
    return _OUTDATED in str(error)


def _versions(tracks: dict[UUID, TrackState]) -> tuple[str, str, list[str]]:
    return (
        uuid_array(tracks),
        number_array(track.version for track in tracks.values()),
        [track.epoch for track in tracks.values()],
    )


_DIFFERENT: Final = """
    FROM unnest(%s::uuid[], %s::bigint[], %s::text[]) v (booking_id, version, epoch)
    LEFT JOIN tracks t ON t.booking_id = v.booking_id
    WHERE (t.version, t.epoch) IS DISTINCT FROM (v.version, v.epoch)
"""
_CHANGED: Final = prepared("changed_tracks", f"SELECT v.booking_id {_DIFFERENT}")
# SQL raises what it cannot convert; PostgreSQL's log shows the text, too.
_OUTDATED: Final = "tracks in the cache of ingest are outdated"
_SAME: Final = prepared(
    "same_tracks",
    f"SELECT CASE count(*) WHEN 0 THEN 0 ELSE ('{_OUTDATED}: ' || count(*))::int END {_DIFFERENT}",
)


def _track_state(row: Sequence[Any]) -> TrackState:
    last = None if row[11] is None else Vertex(*row[11:16])
    state = TrackState(*row[:11], last, *row[16:18])  # type: ignore[call-arg]
    state.newest, state.end = last, Gap(last, None)
    state.delivered, state.shown_until, state.ahead_until = row[18:21]
    if row[21] is not None:
        # Else a release before this one has announced it since, which kept no more than those.
        whole = row[34:37] if row[37] else ()
        state.announced = Announcement(*row[21:24], *whole)
    state.picked_up_at, state.route_expired = row[24:26]
    state.is_judged, state.left_out, state.left_out_mm = row[26:29]
    state.marker = None if row[29] is None else Vertex(*row[29:34])
    return state
