"""The stored neighbours of waypoints that come late. Part of the ingest transaction."""

from collections.abc import Sequence
from typing import Final

from psycopg2.extensions import cursor as Cursor

from tracking.domain.routes import Gap, Vertex
from tracking.store.ingest.track_state import Candidate, vertex_of
from tracking.store.sql import TIME_OF, number_array, time_array, uuid_array


def gaps(cursor: Cursor, candidates: Sequence[Candidate]) -> list[Gap]:
    """Where each new waypoint falls between stored ones."""
    found = [track.end for _, track, _ in candidates]
    inside = [
        (index, track.id, update)
        for index, (_, track, update) in enumerate(candidates)
        if track.last is not None and vertex_of(update) <= track.last
    ]
    if inside:
        indexes, track_ids, updates = zip(*inside, strict=True)
        cursor.execute(
            _NEIGHBOURS,
            (
                number_array(indexes),
                uuid_array(track_ids),
                time_array(u.recorded_at for u in updates),
                uuid_array(u.runner_id for u in updates),
                time_array(u.reported_at for u in updates),
                number_array(u.longitude for u in updates),
                number_array(u.latitude for u in updates),
                time_array(candidates[index][1].begins_at for index in indexes),
                time_array(candidates[index][1].ends_at for index in indexes),
            ),
        )
        for index, *row in cursor:
            found[index] = Gap(_vertex(row[:5]), _vertex(row[5:]))
    return found


# Without the trip's span each look-up would go through every month's partition.
_NEIGHBOURS: Final = f"""
    WITH v AS (
        SELECT number, track_id, {TIME_OF} recorded AS recorded_at, runner_id,
               {TIME_OF} reported AS reported_at, {TIME_OF} begins AS begins_at,
               {TIME_OF} ends AS ends_at, x, y
        FROM unnest(%s::int[], %s::uuid[], %s::bigint[], %s::uuid[], %s::bigint[], %s::float8[],
                    %s::float8[], %s::bigint[], %s::bigint[])
            AS u (number, track_id, recorded, runner_id, reported, x, y, begins, ends)
    )
    SELECT v.number, b.recorded_at, b.runner_id, b.reported_at, ST_X(b.position),
           ST_Y(b.position), a.recorded_at, a.runner_id, a.reported_at, ST_X(a.position),
           ST_Y(a.position)
    FROM v
    LEFT JOIN LATERAL (
        SELECT * FROM waypoints w
        WHERE w.track_id = v.track_id AND w.in_route
          AND w.recorded_at BETWEEN v.begins_at AND v.recorded_at
          AND (w.recorded_at, w.runner_id, w.reported_at, ST_X(w.position), ST_Y(w.position))
            < (v.recorded_at, v.runner_id, v.reported_at, v.x, v.y)
        ORDER BY w.recorded_at DESC, w.runner_id DESC, w.reported_at DESC,
                 ST_X(w.position) DESC, ST_Y(w.position) DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT * FROM waypoints w
        WHERE w.track_id = v.track_id AND w.in_route
          AND w.recorded_at BETWEEN v.recorded_at AND v.ends_at
          AND (w.recorded_at, w.runner_id, w.reported_at, ST_X(w.position), ST_Y(w.position))
            > (v.recorded_at, v.runner_id, v.reported_at, v.x, v.y)
        ORDER BY w.recorded_at, w.runner_id, w.reported_at, ST_X(w.position),
                 ST_Y(w.position) LIMIT 1
    ) a ON true
"""


def _vertex(row: Sequence[object]) -> Vertex | None:
    return None if row[0] is None else Vertex(*row)  # type: ignore[arg-type]
