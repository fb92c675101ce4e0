"""Look-ups of reports that are stored already. Part of the ingest transaction.

The same report has the same runner, reported time and position: what the phone said. When the
platform heard of it differs between its copies, and so may the time at which it is recorded.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import LocationUpdate
from tracking.store.ingest.track_state import Candidate, TrackState
from tracking.store.sql import TIME_OF, execute_rows, number_array, time_array, uuid_array

# Track, runner, reported time, longitude, latitude.
Report: TypeAlias = tuple[UUID, UUID, datetime, float, float]


def report(track: TrackState, update: LocationUpdate) -> Report:
    """What makes two updates the same waypoint of a track."""
    return track.id, update.runner_id, update.reported_at, update.longitude, update.latitude


def is_corrected(update: LocationUpdate) -> bool:
    """Recorded at another time than the phone said."""
    recorded, reported = update.recorded_at, update.reported_at
    return recorded is not reported and recorded != reported


def not_stored(cursor: Cursor, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those that are in the table at the time that the phone said: what a replay finds.

    A row of its own for each index probe: a join of many would read the whole table.
    """
    old = [
        index
        for index, (_, track, update) in enumerate(candidates)
        if (track.last is not None and update.recorded_at <= track.last.recorded_at)
        or is_corrected(update)
    ]
    if not old:
        return list(candidates)
    updates = [candidates[index][2] for index in old]
    cursor.execute(
        f"""
        SELECT u.number
        FROM unnest(%s::int[], %s::uuid[], %s::uuid[], %s::bigint[], %s::float8[], %s::float8[])
            AS u (number, track_id, runner_id, reported, x, y)
        CROSS JOIN LATERAL (
            SELECT FROM waypoints w
            WHERE w.track_id = u.track_id AND w.recorded_at = {TIME_OF} u.reported
              AND w.runner_id = u.runner_id AND w.reported_at = {TIME_OF} u.reported
              AND ST_X(w.position) = u.x AND ST_Y(w.position) = u.y
            LIMIT 1
        ) w
        """,
        (
            number_array(old),
            uuid_array(candidates[index][1].id for index in old),
            uuid_array(update.runner_id for update in updates),
            time_array(update.reported_at for update in updates),
            number_array(update.longitude for update in updates),
            number_array(update.latitude for update in updates),
        ),
    )
    stored = {index for (index,) in cursor}
    return [candidate for index, candidate in enumerate(candidates) if index not in stored]


def stored_corrected(cursor: Cursor, candidates: Collection[Candidate]) -> dict[Report, datetime]:
    """Which of these reports have a waypoint that was corrected, and its recorded time."""
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at, ST_X(w.position), ST_Y(w.position),"
        " w.recorded_at FROM (VALUES %s) v (track_id, runner_id, reported_at, x, y)"
        " JOIN waypoints w USING (track_id, runner_id, reported_at)"
        " WHERE w.recorded_at <> w.reported_at AND ST_X(w.position) = v.x"
        " AND ST_Y(w.position) = v.y",
        [report(track, update) for _, track, update in candidates],
    )
    return {tuple(key): recorded_at for *key, recorded_at in found}


def stored_reports(cursor: Cursor, candidates: Collection[Candidate]) -> dict[Report, datetime]:
    """Which of these reports have a waypoint, on the route or not, and its recorded time."""
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at, ST_X(w.position), ST_Y(w.position),"
        " w.recorded_at FROM (VALUES %s) v (track_id, runner_id, reported_at, x, y)"
        " JOIN waypoints w USING (track_id, runner_id, reported_at)"
        " WHERE w.recorded_at = v.reported_at AND ST_X(w.position) = v.x"
        " AND ST_Y(w.position) = v.y",
        [report(track, update) for _, track, update in candidates],
    )
    uncorrected = {tuple(key): recorded_at for *key, recorded_at in found}
    return uncorrected | stored_corrected(cursor, candidates)
