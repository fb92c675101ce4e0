"""What consumers know of a trip's end, since the last event that told it. In its track's row."""

from collections.abc import Iterable, Sequence
from uuid import UUID, uuid5

from psycopg2.extensions import cursor as Cursor

from tracking.domain.times import rfc3339
from tracking.store.ingest.track_state import Announcement, TrackState
from tracking.store.sql import execute_rows


def announcement(event_id: UUID, track: TrackState) -> Announcement:
    """Of the track as it is now."""
    assert track.completed_at is not None
    return Announcement(
        event_id,
        track.distance_mm,
        track.completed_at,
        track.started_at,
        track.waypoint_count,
        track.reported_mm,
    )


def correction_id(track: TrackState, before: Announcement) -> UUID:
    """It follows from the content."""
    now = announcement(before.event_id, track)
    end = f"{now.distance_mm} {rfc3339(now.completed_at)}"
    rest = f"{rfc3339(track.started_at)} {now.waypoints} {now.reported_mm}"
    return uuid5(track.id, f"tracking.corrected {before.event_id} {end} {rest}")


def differs(track: TrackState) -> bool:
    """Is anything that the last event says of the trip otherwise by now?"""
    last = track.announced
    return last is not None and (
        (last.distance_mm, last.completed_at) != (track.distance_mm, track.completed_at)
        or last.started_at not in {None, track.started_at}
        or last.waypoints not in {None, track.waypoint_count}
        or last.reported_mm not in {None, track.reported_mm}
    )


def replaced(before: Announcement) -> dict[str, object]:
    """The fields of a correction that say what was told before."""
    started_at, reported_mm = before.started_at, before.reported_mm
    return {
        "previous_distance_km": before.distance_mm / 1_000_000,
        "previous_completed_at": rfc3339(before.completed_at),
        "previous_started_at": None if started_at is None else rfc3339(started_at),
        "previous_waypoints": before.waypoints,
        "previous_reported_distance_km": None if reported_mm is None else reported_mm / 1_000_000,
        "replaces": str(before.event_id),
    }


def withdraw(cursor: Cursor, tracks: Sequence[TrackState]) -> dict[UUID, Announcement]:
    """Delete corrections that the drainer has not claimed; by track, what each would replace."""
    cursor.execute(
        "DELETE FROM outbox WHERE track_id = ANY(%s) AND type = 'tracking.corrected' AND NOT taken"
        " RETURNING track_id, (data->>'replaces')::uuid,"
        " round((data->>'previous_distance_km')::numeric * 1000000)::bigint,"
        " (data->>'previous_completed_at')::timestamptz,"
        " (data->>'previous_started_at')::timestamptz, (data->>'previous_waypoints')::bigint,"
        " round((data->>'previous_reported_distance_km')::numeric * 1000000)::bigint",
        ([track.id for track in tracks],),
    )
    return {track_id: Announcement(*seen) for track_id, *seen in cursor}


def write_announced(cursor: Cursor, tracks: Iterable[TrackState]) -> None:
    """None, of a trip that is active again, forgets what was told."""
    execute_rows(
        cursor,
        "UPDATE tracks SET announced_id = v.id, announced_distance_mm = v.distance_mm,"
        " announced_completed_at = v.completed_at, announced_whole_id = v.id,"
        " announced_started_at = v.started_at, announced_waypoints = v.waypoints,"
        " announced_reported_mm = v.reported_mm"
        " FROM (VALUES %s) v (track_id, id, distance_mm, completed_at, started_at, waypoints,"
        " reported_mm) WHERE tracks.id = v.track_id",
        [
            (t.id, *((a.event_id, a.distance_mm, a.completed_at, a.started_at, a.waypoints,
                      a.reported_mm) if a else (None,) * 6))
            for t in tracks
            for a in [t.announced]
        ],
        "(%s, %s::uuid, %s::bigint, %s::timestamptz, %s::timestamptz, %s::bigint, %s::bigint)",
    )  # fmt: skip
