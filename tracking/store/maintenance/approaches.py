"""Which trips may have come somewhere, and their waypoints: what arrivals are computed from."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.domain.arrivals import Way
from tracking.domain.hops import Recorded
from tracking.domain.legs import Course
from tracking.domain.trips import GRACE
from tracking.store.read.spans import SHOWN_POSITION
from tracking.store.sql import ROUTE_ORDER, interval, number_array, uuid_array

# Who is farther away than this has not come near since the last look: off the way of most trips.
# (But who is fast may be soon there from farther away: `Due.soon_m`.)
NEAR_M: Final = 1_000.0


class Candidate(Struct, frozen=True):
    """A track as it was read. No waypoint is older than `first_at`, or newer than `last_at`."""

    id: UUID
    booking_id: UUID
    runner_id: UUID
    owner_id: UUID | None
    version: int
    epoch: str
    head_seq: int
    waypoint_count: int
    distance_mm: int
    is_active: bool
    first_at: datetime
    last_at: datetime | None
    course: Course


_CANDIDATES: Final = f"""
    SELECT t.id, t.booking_id, t.runner_id, t.owner_id, t.version, t.epoch, t.head_seq,
        t.waypoint_count, t.distance_mm, t.status = 'active', a.first_at - {interval(GRACE)},
        t.last_recorded_at, extract(epoch FROM a.last_at)::float8,
        extract(epoch FROM t.picked_up_at)::float8,
        CASE WHEN t.status <> 'active' THEN extract(epoch FROM t.completed_at)::float8 END,
        t.end_reason IS NOT DISTINCT FROM 'delivered', ST_X(t.pickup), ST_Y(t.pickup),
        ST_X(t.dropoff), ST_Y(t.dropoff)
    FROM tracks t CROSS JOIN LATERAL (
        SELECT min(started_at) AS first_at, max(started_at) AS last_at FROM assignments
        WHERE booking_id = t.booking_id
    ) a
"""
# Near the end of the way that lasts, or said to be there; or the pickup's way has just ended.
_CLOSE: Final = f"""
    {_CANDIDATES}
    LEFT JOIN unnest(%s::uuid[], %s::bigint[]) AS seen (id, version) ON seen.id = t.id
    WHERE t.status = 'active' AND t.updated_at >= %s AND t.version IS DISTINCT FROM seen.version
        AND t.id <> ALL(%s::uuid[]) AND (%s::uuid IS NULL OR t.id = %s::uuid)
        AND t.waypoint_count <= %s AND t.route_expired_at IS NULL AND a.first_at IS NOT NULL AND (
            ST_DistanceSphere({SHOWN_POSITION}, CASE t.phase WHEN 'to_pickup' THEN t.pickup
                ELSE t.dropoff END) <= CASE t.phase WHEN 'to_pickup' THEN %s ELSE %s END
            OR EXISTS (SELECT FROM arrivals r WHERE r.track_id = t.id AND r.state = 'arrived'
                AND r.way_end = CASE t.phase WHEN 'to_pickup' THEN 'pickup' ELSE 'dropoff' END)
            OR t.phase = 'to_dropoff' AND t.pickup IS NOT NULL AND NOT EXISTS (
                SELECT FROM arrivals r WHERE r.track_id = t.id AND r.way_end = 'pickup'
                AND r.closed_at = t.picked_up_at))
    ORDER BY t.updated_at LIMIT %s
"""


class Due(Struct, frozen=True):
    """Which active trips are to be looked at: those that changed since then, but those that were
    seen at this version, those that are postponed, and those of more waypoints.
    """

    since: datetime
    seen: Mapping[UUID, int]
    without: Collection[UUID] = ()
    only: UUID | None = None
    most_waypoints: int = 100_000
    # From how far away somebody may be at the pickup, at the dropoff, so soon that it is told.
    soon_m: tuple[float, float] = (0.0, 0.0)


def close_to_an_end(cursor: Cursor, due: Due, limit: int) -> list[Candidate]:
    """The one that changed first before the others; none without an assignment."""
    only = None if due.only is None else str(due.only)
    cursor.execute(
        _CLOSE,
        (uuid_array(due.seen), number_array(due.seen.values()), due.since, uuid_array(due.without),
         only, only, due.most_waypoints, *(max(NEAR_M, each) for each in due.soon_m), limit),
    )  # fmt: skip
    return [_candidate(row) for row in cursor]


def candidate_of(cursor: Cursor, track_id: UUID) -> Candidate | None:
    """Whatever its state; None of one without an assignment, or whose route has gone."""
    cursor.execute(
        f"{_CANDIDATES} WHERE t.id = %s AND t.route_expired_at IS NULL AND a.first_at IS NOT NULL",
        (track_id,),
    )
    row = cursor.fetchone()
    return None if row is None else _candidate(row)


def _candidate(row: Sequence[Any]) -> Candidate:
    pickup, dropoff = (None if x is None else (x, y) for x, y in (row[16:18], row[18:20]))
    course = Course(*row[12:16], pickup, dropoff)  # type: ignore[call-arg]
    return Candidate(*row[:12], course)  # type: ignore[call-arg]


class Page(Struct, frozen=True):
    """Waypoints in recorded order; `flagged`: the seqs of those whose stored verdict is not OK."""

    route: list[Recorded]
    flagged: Collection[int]


def waypoints_of(
    cursor: Cursor, track: Candidate, way: Way, from_s: float, above_seq: int | None = None
) -> Page:
    """Of one way, recorded from then on; and whatever is numbered above `above_seq`."""
    to_s = way.to_s
    cursor.execute(
        f"""
        SELECT seq, extract(epoch FROM recorded_at)::float8, ST_X(position), ST_Y(position),
            verdict
        FROM waypoints WHERE track_id = %s AND in_route AND seq <= %s
            AND recorded_at BETWEEN %s AND %s
            AND (recorded_at >= to_timestamp(%s) OR seq > %s)
            AND (%s::float8 IS NULL OR recorded_at <= to_timestamp(%s::float8) + interval '1 ms')
        ORDER BY {ROUTE_ORDER}
        """,
        (track.id, track.head_seq, track.first_at, track.last_at, from_s - 0.001, above_seq,
         to_s, to_s),
    )  # fmt: skip
    rows = cursor.fetchall()
    return Page([Recorded(*row[:4]) for row in rows], {row[0] for row in rows if row[4]})
