"""What a trip adds up to: stored when it has ended, else computed from its waypoints."""

from datetime import datetime
from typing import Final

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.hops import Recorded
from tracking.domain.summary import JudgedWaypoint, Summary, TripFacts, summary_of
from tracking.domain.tracks import TrackView
from tracking.domain.verdicts import Rule, Verdict, final, judge
from tracking.store.engine import translated
from tracking.store.read.routes import RouteSlice, chosen
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import transaction

# Some 20 us of Python and 1 kB a waypoint: 0.2 s for a request, 14 hours at one in five seconds.
MOST_ON_DEMAND: Final = 10_000
# 2 s and 100 MB for maintenance, six days. A longer route has no summary.
MOST_SETTLED: Final = 100_000


class SettledSummary(Struct, frozen=True):
    """What maintenance has stored for this version of a track.

    `at`: when its metadata were computed, for whatever version. `is_settled`: for this one, and
    the trip has ended: its verdicts are stored. `summary`: None, too, of what was settled
    before there were summaries, and of a route that is too long.
    """

    at: datetime | None
    is_settled: bool
    implausible: bool | None
    summary: Summary | None
    route_sha256: str | None = None


class SummedUp(Struct, frozen=True):
    """Computed from the waypoints; both None of a route that is too long, or no longer whole."""

    summary: Summary | None
    implausible: bool | None


@translated
def settled_summary(engine: sa.Engine, track: TrackView) -> SettledSummary:
    """A summary is of one version: whoever stored an older one later does no harm.

    Where the waypoints have gone it is the last one, whatever is said of the booking later.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT m.updated_at, t.version = %s AND t.status <> 'active'
                    AND (t.metadata_current OR t.route_expired_at IS NOT NULL),
                m.implausible,
                CASE WHEN m.track_version = %s OR m.route_expired THEN m.summary::text END,
                CASE WHEN m.route_sha256_at = m.updated_at THEN m.route_sha256 END
            FROM tracks t JOIN route_metadata m ON m.track_id = t.id WHERE t.id = %s
            """,
            (track.version, track.version, track.id),
        )
        row = cursor.fetchone()
    if row is None:
        return SettledSummary(None, False, None, None)
    at, is_settled, implausible, text, route_sha256 = row
    if not is_settled:
        return SettledSummary(at, False, None, None)
    summary = None if text is None else msgspec.json.decode(text, type=Summary)
    return SettledSummary(at, True, implausible, summary, route_sha256)


@translated
def summary_so_far(engine: sa.Engine, track: TrackView, rule: Rule | None) -> SummedUp:
    """For a request, of a route that is not too long."""
    return sum_up(engine, track, rule, MOST_ON_DEMAND)


def sum_up(engine: sa.Engine, track: TrackView, rule: Rule | None, most: int) -> SummedUp:
    """Judge the waypoints by the rule, or without one take the verdicts that are stored."""
    if track.waypoint_count > most:
        return SummedUp(None, None)
    route = _route(engine, track)
    if len(route) != track.waypoint_count:
        return SummedUp(None, None)
    implausible = None
    if rule is not None:
        judgement = judge([Recorded(*w[:4]) for w in route], rule)
        implausible = judgement.implausible
        ended = track.status != "active"
        verdicts = final(judgement.verdicts) if ended else judgement.verdicts
        route = [w._replace(verdict=verdicts.get(w.seq, Verdict.OK)) for w in route]
    return SummedUp(summary_of(route, _facts(track)), implausible)


def _route(engine: sa.Engine, track: TrackView) -> list[JudgedWaypoint]:
    with transaction(engine) as cursor:
        condition, values = chosen(cursor, RouteSlice(track.id, 0, track.head_seq))
        cursor.execute(
            f"""
            SELECT seq, extract(epoch FROM recorded_at)::float8, ST_X(position), ST_Y(position),
                extract(epoch FROM received_at)::float8, speed_kmh, recorded_at <> reported_at,
                verdict
            FROM waypoints WHERE {condition} ORDER BY {ROUTE_ORDER}
            """,
            values,
        )
        return [JudgedWaypoint._make((*known, Verdict(verdict))) for *known, verdict in cursor]


def _facts(track: TrackView) -> TripFacts:
    ended = track.completed_at
    return TripFacts(
        track.started_at.timestamp(),
        None if ended is None else ended.timestamp(),
        _place(track.pickup_lng, track.pickup_lat),
        _place(track.dropoff_lng, track.dropoff_lat),
        track.head_seq - track.waypoint_count,  # each waypoint that was stored has its own seq
    )


def _place(longitude: float | None, latitude: float | None) -> tuple[float, float] | None:
    return None if longitude is None or latitude is None else (longitude, latitude)
