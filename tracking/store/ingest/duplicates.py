"""Look-ups of reports that are stored already. Part of the ingest transaction.

The same waypoint has the same track, runner and reported time.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.store.ingest.track_state import Candidate
from tracking.store.sql import TIME_OF, execute_rows, number_array, time_array, uuid_array

Report: TypeAlias = tuple[UUID, UUID, datetime]


def not_stored(cursor: Cursor, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those whose very row is in the table: what a replay finds, and nothing else.

    A row of its own for each index probe: a join of many would read the whole table.
    """
    old = [
        index
        for index, (_, track, update) in enumerate(candidates)
        if track.last is not None and update.recorded_at <= track.last.recorded_at
    ]
    if not old:
        return list(candidates)
    updates = [candidates[index][2] for index in old]
    cursor.execute(
        f"""
        SELECT u.number FROM unnest(%s::int[], %s::uuid[], %s::bigint[], %s::uuid[], %s::bigint[])
            AS u (number, track_id, recorded, runner_id, reported)
        CROSS JOIN LATERAL (
            SELECT FROM waypoints w
            WHERE w.track_id = u.track_id AND w.recorded_at = {TIME_OF} u.recorded
              AND w.runner_id = u.runner_id AND w.reported_at = {TIME_OF} u.reported
            LIMIT 1
        ) w
        """,
        (
            number_array(old),
            uuid_array(candidates[index][1].id for index in old),
            time_array(update.recorded_at for update in updates),
            uuid_array(update.runner_id for update in updates),
            time_array(update.reported_at for update in updates),
        ),
    )
    stored = {index for (index,) in cursor}
    return [candidate for index, candidate in enumerate(candidates) if index not in stored]


def stored_corrected(cursor: Cursor, candidates: Collection[Candidate]) -> set[Report]:
    """A correction depends on when the platform got the report, and may differ the second time."""
    rows = [(t.id, u.runner_id, u.reported_at) for _, t, u in candidates]
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at"
        " FROM (VALUES %s) v (track_id, runner_id, reported_at)"
        " JOIN waypoints w USING (track_id, runner_id, reported_at)"
        " WHERE w.recorded_at <> w.reported_at",
        rows,
    )
    return {(track_id, runner_id, reported_at) for track_id, runner_id, reported_at in found}


def stored_reports(cursor: Cursor, candidates: Collection[Candidate]) -> set[Report]:
    """Which of these the table has, on the route or not."""
    rows = [(t.id, u.recorded_at, u.runner_id, u.reported_at) for _, t, u in candidates]
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at"
        " FROM (VALUES %s) v (track_id, recorded_at, runner_id, reported_at)"
        " JOIN waypoints w USING (track_id, recorded_at, runner_id, reported_at)",
        rows,
    )
    reports = {(track_id, runner_id, reported_at) for track_id, runner_id, reported_at in found}
    return reports | stored_corrected(cursor, candidates)
