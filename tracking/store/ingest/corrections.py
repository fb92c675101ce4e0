"""Copies of one report that are corrected differently. Part of the ingest transaction.

How far a wrong clock is corrected depends on when the platform heard of the report, and a copy may
have been heard of earlier. A waypoint counts at the earliest time that its copies say, so that
their order does not show.
"""

from collections.abc import Collection
from datetime import datetime

from tracking.domain.verdicts import Rule
from tracking.store import partitions
from tracking.store.ingest import duplicates
from tracking.store.ingest.route_changes import remeasure
from tracking.store.ingest.track_state import Candidate, TrackState
from tracking.store.sql import execute_rows
from tracking.store.statements import Statements


def lower_corrections(cursor: Statements, candidates: Collection[Candidate], rule: Rule) -> None:
    """Move stored waypoints to the earlier times of their corrected copies among these.

    Before the rest of the batch: it may hold copies of these that look right.
    """
    corrected = [c for c in candidates if duplicates.is_corrected(c[2])]
    if not corrected:
        return
    for _, track, update in corrected:
        track.note_correction(update)
    stored = duplicates.stored_reports(cursor, corrected)
    moves: dict[duplicates.Report, tuple[TrackState, datetime]] = {}
    for _, track, update in corrected:
        key = duplicates.report(track, update)
        before = moves[key][1] if key in moves else stored.get(key)
        if before is not None and update.recorded_at < before:
            moves[key] = track, update.recorded_at
    if not moves:
        return
    partitions.ensure(cursor, [recorded_at for _, recorded_at in moves.values()])
    execute_rows(
        cursor,
        "UPDATE waypoints w SET recorded_at = v.recorded_at, in_route = true"
        " FROM (VALUES %s) v (track_id, runner_id, reported_at, x, y, before, recorded_at)"
        " WHERE w.track_id = v.track_id AND w.recorded_at = v.before"
        " AND w.runner_id = v.runner_id AND w.reported_at = v.reported_at"
        " AND ST_X(w.position) = v.x AND ST_Y(w.position) = v.y",
        [(*key, stored[key], recorded_at) for key, (_, recorded_at) in moves.items()],
    )
    remeasure(cursor, {track.id: track for track, _ in moves.values()}.values(), rule)
