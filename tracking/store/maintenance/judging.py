"""Verdicts of the waypoints of ended trips: read, judged, written. Maintenance and verdicts.py."""

from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from tracking.domain.hops import Recorded
from tracking.domain.routes import lengths_mm
from tracking.domain.verdicts import STANDARD, Rule, Verdict, changes, final, judge
from tracking.store.ingest.bookings import lock_bookings
from tracking.store.ingest.heads import write_heads
from tracking.store.ingest.route_verdicts import judge_route
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.ingest.tracks import load_tracks
from tracking.store.outbox.events import write_lifecycle
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import transaction


class RouteVerdicts(Struct, frozen=True):
    """What a route was judged at `version` of its track.

    `changed`: by seq, what was not stored yet. `distance_mm`: of the waypoints whose verdict is OK.
    `left_out`: how many the rule leaves out, also of a route that is implausible.
    """

    version: int
    changed: dict[int, Verdict]
    flagged: int
    implausible: bool
    distance_mm: int
    left_out: int = 0


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

    None: the track changed meanwhile, nothing was stored. Ingest has judged it as it grew: what is
    left to change is of another rule, of a release before, or of the trip's end.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id, version, head_seq, distance_mm, left_out FROM tracks WHERE id = %s",
            (track_id,),
        )
        booking_id, version, head_seq, told_mm, left_out = cursor.fetchone() or _gone(track_id)
        route = {"id": track_id, "head": head_seq, "speed": rule.max_speed_kmh / 3.6,
                 "slack": rule.slack_m}  # fmt: skip
        cursor.execute(_IS_DOUBTFUL, route)
        if not (cursor.fetchone() or (True,))[0]:
            return RouteVerdicts(version, {}, 0, False, told_mm)
        cursor.execute(_ROUTE, route)
        rows = cursor.fetchall()
        judged = _judged(rows, version, rule)
        # Ingest counts what has left the route, too: more than here does no harm.
        is_told = judged.distance_mm == told_mm and (left_out > 0 or not judged.left_out)
        if dry_run or (is_told and not judged.changed):
            return judged
        lock_bookings(cursor, [booking_id])
        tracks = load_tracks(cursor, [booking_id], TrackCache())
        track = tracks[booking_id]
        if track.version != version:
            return None
        judge_route(cursor, track, rule, track.shown)
        write_heads(cursor, [track])
        write_lifecycle(cursor, [], tracks)  # other services hear of another distance
    return replace(judged, version=track.version)


def _gone(track_id: UUID) -> tuple[UUID, int, int, int, int]:
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
        version, changes(stored, verdicts), len(verdicts), judgement.implausible, distance,
        max(judgement.left_out, len(verdicts)),
    )  # fmt: skip


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
