"""Stored waypoints that leave their route, or come back, when assignments change."""

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import FIRST_TIME
from tracking.domain.routes import Gap, Vertex, lengths_mm
from tracking.store.ingest.heads import write_heads
from tracking.store.ingest.track_state import TrackState


def reroute(cursor: Cursor, tracks: Sequence[TrackState]) -> None:
    """After assignments changed: decide anew which stored waypoints belong to the route.

    One that came before its trip's end was known keeps its row and leaves the route.
    """
    if not tracks:
        return
    cursor.execute(
        """
        UPDATE waypoints w SET in_route = NOT w.in_route
        FROM tracks t
        WHERE t.id = ANY(%s) AND w.track_id = t.id AND w.in_route <> EXISTS (
            SELECT FROM assignments a
            WHERE a.booking_id = t.booking_id AND a.runner_id = w.runner_id
              AND a.started_at - interval '1 minute' <= w.recorded_at
              AND (a.ended_at IS NULL OR a.ended_at + interval '1 minute' >= w.recorded_at))
        RETURNING t.id
        """,
        ([track.id for track in tracks],),
    )
    changed = {track_id for (track_id,) in cursor}
    remeasured = [track for track in tracks if track.id in changed]
    for track in remeasured:
        _remeasure(cursor, track)
    write_heads(cursor, remeasured)


def _remeasure(cursor: Cursor, track: TrackState) -> None:
    """Distance, count and last position from all waypoints of the route."""
    cursor.execute(
        "SELECT recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position)"
        " FROM waypoints WHERE track_id = %s AND in_route"
        " ORDER BY recorded_at, runner_id, reported_at",
        (track.id,),
    )
    vertices = [Vertex(*row) for row in cursor]
    if track.last is not None:
        track.shown_until = max(track.shown_until or FIRST_TIME, track.last.recorded_at)
    (track.distance_mm,) = lengths_mm([vertices])
    track.waypoint_count = len(vertices)
    track.last = track.newest = vertices[-1] if vertices else None
    track.end = Gap(track.last, None)
