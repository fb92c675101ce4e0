"""Verdicts of the waypoints of ended trips: read, judged, written. Maintenance and verdicts.py."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.hops import Recorded
from tracking.domain.routes import lengths_mm
from tracking.domain.verdicts import STANDARD, Rule, Verdict, changes, final, judge
from tracking.store.ingest.bookings import lock_bookings
from tracking.store.sql import ROUTE_ORDER, execute_rows
from tracking.store.statements import Statements, transaction


class RouteVerdicts(Struct, frozen=True):
    """What a route was judged at `version` of its track.

    `changed`: by seq, what is not stored yet. `distance_mm`: of the waypoints whose verdict is OK.
    """

    version: int
    changed: dict[int, Verdict]
    flagged: int
    implausible: bool
    distance_mm: int


class EndedTrack(Struct, frozen=True):
    """A track whose trip is over."""

    id: UUID
    booking_id: UUID
    booking_number: str | None
    completed_at: datetime


def judge_track(
    engine: sa.Engine, track_id: UUID, rule: Rule = STANDARD, *, dry_run: bool = False
) -> RouteVerdicts | None:
    """Judge an ended trip's route, and store what changed unless it is a dry run.

    None: the track changed meanwhile, nothing was stored. Ingest waits only while the rows that
    changed are written.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id, version, head_seq, distance_mm FROM tracks WHERE id = %s",
            (track_id,),
        )
        booking_id, version, head_seq, reported_mm = cursor.fetchone() or _gone(track_id)
        route = {"id": track_id, "head": head_seq, "speed": rule.max_speed_kmh / 3.6,
                 "slack": rule.slack_m}  # fmt: skip
        cursor.execute(_IS_DOUBTFUL, route)
        if not (cursor.fetchone() or (True,))[0]:
            return RouteVerdicts(version, {}, 0, False, reported_mm)
        cursor.execute(_ROUTE, route)
        rows = cursor.fetchall()
        judged = _judged(rows, version, rule)
        if judged.changed and not dry_run:
            lock_bookings(cursor, [booking_id])
            cursor.execute("SELECT version FROM tracks WHERE id = %s", (track_id,))
            if cursor.fetchone() != (version,):
                return None
            _write(cursor, track_id, judged.changed, {row[0]: row[5] for row in rows})
    return judged


def _gone(track_id: UUID) -> tuple[int, int, int, int]:
    raise LookupError(f"no track {track_id}")


# Whether Python has to look at the route: a verdict is stored, a hop may be impossible, or there is
# no position. PostGIS measures on the same sphere; the last digit may differ, hence the millionth.
_IS_DOUBTFUL: Final = f"""
    SELECT coalesce(bool_or(verdict <> 0 OR (x = 0 AND y = 0)
        OR metres * 1.000001 > gap * %(speed)s + %(slack)s), false)
    FROM (
        SELECT verdict, ST_X(position) AS x, ST_Y(position) AS y,
            ST_DistanceSphere(position, lag(position) OVER w) AS metres,
            extract(epoch FROM recorded_at - lag(recorded_at) OVER w)::float8 AS gap
        FROM waypoints WHERE track_id = %(id)s AND in_route AND seq <= %(head)s
        WINDOW w AS (ORDER BY {ROUTE_ORDER})
    ) hops
"""
_ROUTE: Final = f"""
    SELECT seq, extract(epoch FROM recorded_at)::float8, ST_X(position), ST_Y(position), verdict,
        recorded_at
    FROM waypoints WHERE track_id = %(id)s AND in_route AND seq <= %(head)s ORDER BY {ROUTE_ORDER}
"""


def _judged(
    rows: list[tuple[int, float, float, float, int, datetime]], version: int, rule: Rule
) -> RouteVerdicts:
    route = [Recorded(*row[:4]) for row in rows]
    stored = {row[0]: Verdict(row[4]) for row in rows if row[4]}
    judgement = judge(route, rule)
    verdicts = final(judgement.verdicts)
    (distance,) = lengths_mm([[w for w in route if w.seq not in verdicts]])
    return RouteVerdicts(
        version, changes(stored, verdicts), len(verdicts), judgement.implausible, distance
    )


def _write(
    cursor: Statements,
    track_id: UUID,
    changed: Mapping[int, Verdict],
    recorded: Mapping[int, datetime],
) -> None:
    """The recorded time finds the partition."""
    execute_rows(
        cursor,
        "UPDATE waypoints w SET verdict = v.verdict"
        " FROM (VALUES %s) v (track_id, recorded_at, seq, verdict)"
        " WHERE w.track_id = v.track_id AND w.recorded_at = v.recorded_at AND w.seq = v.seq",
        [(track_id, recorded[seq], seq, int(verdict)) for seq, verdict in changed.items()],
        "(%s::uuid, %s::timestamptz, %s::bigint, %s::smallint)",
    )


def ended_tracks(
    engine: sa.Engine, since: datetime, after: EndedTrack | None, limit: int
) -> list[EndedTrack]:
    """Of trips that ended then or later, those behind `after`, in the order of their ends."""
    with transaction(engine) as cursor:
        begin = (since, UUID(int=0)) if after is None else (after.completed_at, after.id)
        cursor.execute(
            "SELECT id, booking_id, booking_number, completed_at FROM tracks"
            " WHERE status <> 'active' AND route_expired_at IS NULL AND completed_at >= %s"
            " AND (completed_at, id) > (%s, %s::uuid) ORDER BY completed_at, id LIMIT %s",
            (since, *begin, limit),
        )
        return [EndedTrack(*row) for row in cursor]
