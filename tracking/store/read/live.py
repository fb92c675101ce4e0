"""What a viewer who joins is told, and the rows that he missed."""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.domain.changes import BookingChanges, TrackMove
from tracking.domain.seq_runs import Runs, runs_of
from tracking.domain.tracks import LiveState
from tracking.domain.waypoints import MissedWaypoint
from tracking.errors import DatabaseUnavailable
from tracking.store.engine import translated
from tracking.store.read.spans import PLACE, span_of, stored_waypoint, waypoint_at
from tracking.store.read.told_arrivals import legs_of
from tracking.store.statements import transaction

# Points of one backfill: some 130 kB as text.
PAGE: Final = 1_000
TRIES: Final = 3


@translated
def live_state(engine: sa.Engine, booking_id: UUID) -> LiveState | None:
    """None for a booking that nothing is known of, any more or yet."""
    with transaction(engine) as cursor:
        # Whose newest waypoint is moved between both statements has another one by then.
        for _ in range(TRIES):
            cursor.execute(_STATE, (booking_id,))
            row = cursor.fetchone()
            if row is None:
                return None
            state = LiveState(*row[:10], None, *row[10:12])  # type: ignore[call-arg]
            track_id, state.route_expired_at, place = row[3], row[13], row[14:]
            if row[12]:
                state.flagged = _flagged(cursor, track_id)
            if track_id is not None:  # not older than the version
                state.legs = tuple(legs_of(cursor, [track_id])[track_id])
            if place[0] is None:
                return state
            waypoint = waypoint_at(cursor, track_id, place)
            if waypoint is not None:
                state.last = stored_waypoint(booking_id, track_id, waypoint)
                return state
    raise DatabaseUnavailable("the newest waypoint moves all the time")


@translated
def flagged_runs(engine: sa.Engine, track_id: UUID) -> Runs:
    """Which waypoints of the track are left out now."""
    with transaction(engine) as cursor:
        return _flagged(cursor, track_id)


def _flagged(cursor: Cursor, track_id: UUID) -> Runs:
    """Also what has left the route: whoever had it must not draw it now."""
    span = span_of(cursor, track_id)
    if span is None:
        return []
    cursor.execute(
        "SELECT seq FROM waypoints WHERE track_id = %s AND verdict <> 0 AND recorded_at >= %s",
        (track_id, span.first),
    )
    return runs_of(seq for (seq,) in cursor)


_STATE: Final = f"""
    SELECT b.booking_id, b.owner_id, t.runner_id, t.id, t.epoch,
           coalesce(t.status, 'requested'), t.phase, t.started_at,
           coalesce(t.head_seq, 0), t.picked_up_at, t.completed_at,
           coalesce(t.version, 0), coalesce(t.left_out, 0) > 0, t.route_expired_at,
           {PLACE}
    FROM bookings b LEFT JOIN tracks t ON t.booking_id = b.booking_id
    WHERE b.booking_id = %s AND b.erased_at IS NULL
"""


@translated
def track_versions(
    engine: sa.Engine, booking_ids: Collection[UUID] | None = None
) -> dict[UUID, int]:
    """Of the tracks of these bookings, of None of all active ones: tells what was missed."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id, version FROM tracks WHERE"
            " CASE WHEN %s THEN status = 'active' ELSE booking_id = ANY(%s::uuid[]) END",
            (booking_ids is None, list(booking_ids or ())),
        )
        return dict(cursor.fetchall())


RECENT_MOVES: Final = """
    SELECT booking_id, epoch, version, version, distance_mm FROM tracks
    WHERE (status = 'active' OR NOT metadata_current AND status <> 'active')
        AND updated_at > now() - make_interval(secs => %s)
"""


@translated
def recent_moves(engine: sa.Engine, seconds: float) -> list[BookingChanges]:
    """Where tracks stand that moved within so long: whoever knows less has missed something.

    By the indexes of active tracks and of those that wait for their metadata, not by one of
    `updated_at`, which every new head would have to change. A trip that ended and has its metadata
    by now is missing here: its rooms ask for themselves when it is silent.
    """
    with transaction(engine) as cursor:
        cursor.execute(RECENT_MOVES, (seconds,))
        return [BookingChanges(row[0], [], TrackMove(*row[1:])) for row in cursor]


@translated
def missed_page(
    engine: sa.Engine,
    track_id: UUID,
    after_seq: int,
    head_seq: int,
    since: datetime | None = None,
) -> list[MissedWaypoint]:
    """The next PAGE waypoints of the route above a seq, in seq order; fewer at the end.

    Rows at or below a head never change, so no transaction stays open for a slow reader. What left
    the route is nobody's to see: its seq is missing here. So is what was recorded before `since`.
    """
    with transaction(engine) as cursor:
        span = span_of(cursor, track_id)
        if span is None:
            return []
        first = span.first if since is None else max(since, span.first)
        cursor.execute(
            f"""
            SELECT seq, ST_Y(position), ST_X(position), speed_kmh, heading_degrees, recorded_at
            FROM waypoints WHERE track_id = %s AND seq > %s AND seq <= %s AND in_route
                AND recorded_at BETWEEN %s AND %s ORDER BY seq LIMIT {PAGE}
            """,
            (track_id, after_seq, head_seq, first, span.last),
        )
        return [MissedWaypoint(*row) for row in cursor]


@translated
def count_rows(engine: sa.Engine, track_id: UUID, after_seq: int, head_seq: int) -> int:
    """How many of the rows between two seqs are still there; less when months were dropped."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT count(*) FROM waypoints WHERE track_id = %s AND seq > %s AND seq <= %s",
            (track_id, after_seq, head_seq),
        )
        (count,) = cursor.fetchone() or (0,)
    return int(count)
