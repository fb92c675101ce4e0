"""Stored waypoints that leave their route, come back or move in it. Part of the transaction."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.routes import Gap
from tracking.domain.trips import GRACE
from tracking.domain.verdicts import Rule
from tracking.store import partitions
from tracking.store.ingest.heads import write_heads
from tracking.store.ingest.route_verdicts import judge_route
from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import interval
from tracking.store.statements import Statements


def reroute(cursor: Statements, tracks: Sequence[TrackState], rule: Rule) -> None:
    """After assignments changed: decide anew which stored waypoints belong to the route, and when.

    One that came before its trip's end was known keeps its row and leaves the route.
    """
    ids = [track.id for track in tracks if not track.route_expired]
    if not ids:
        return
    changed = _believe_again(cursor, ids)
    cursor.execute(_MEMBERSHIP, (ids,))
    changed |= {track_id for (track_id,) in cursor}
    remeasure(cursor, [track for track in tracks if track.id in changed], rule)


_MEMBERSHIP: Final = f"""
    UPDATE waypoints w SET in_route = NOT w.in_route
    FROM tracks t
    WHERE t.id = ANY(%s) AND w.track_id = t.id AND w.in_route <> EXISTS (
        SELECT FROM assignments a
        WHERE a.booking_id = t.booking_id AND a.runner_id = w.runner_id
          AND a.started_at <= w.recorded_at + {interval(GRACE)}
          AND (a.ended_at IS NULL OR a.ended_at >= w.recorded_at - {interval(GRACE)}))
    RETURNING t.id
"""


def _believe_again(cursor: Cursor, track_ids: list[UUID]) -> set[UUID]:
    """The phone's time counts again where the trip turns out to have begun before it."""
    cursor.execute(
        f"""
        SELECT w.reported_at FROM waypoints w JOIN tracks t ON t.id = w.track_id
        WHERE t.id = ANY(%s) AND w.recorded_at <> w.reported_at
          AND w.recorded_at > w.reported_at
          AND w.reported_at >= t.started_at - {interval(GRACE)}
        """,
        (track_ids,),
    )
    times = [reported_at for (reported_at,) in cursor]
    if not times:
        return set()
    partitions.ensure(cursor, times)
    cursor.execute(
        f"""
        UPDATE waypoints w SET recorded_at = w.reported_at
        FROM tracks t
        WHERE t.id = ANY(%s) AND w.track_id = t.id AND w.recorded_at <> w.reported_at
          AND w.recorded_at > w.reported_at
          AND w.reported_at >= t.started_at - {interval(GRACE)}
        RETURNING t.id
        """,
        (track_ids,),
    )
    return {track_id for (track_id,) in cursor}


def remeasure(cursor: Statements, tracks: Collection[TrackState], rule: Rule) -> None:
    """Heads, markers and verdicts of these tracks from all waypoints of their routes."""
    for track in tracks:
        judge_route(cursor, track, rule, track.shown)
        track.end = Gap(track.last, None)
    write_heads(cursor, list(tracks))
