"""What the route of an ended trip adds up to: the rows of `route_metadata`.

Computed once the trip is over, since nothing shows it before; again when its route changes.
`models.RouteMetadata` defines every column.
"""

from collections.abc import Callable, Collection
from typing import Final
from uuid import UUID

import msgspec
import sqlalchemy as sa

from tracking.domain.verdicts import STANDARD, Rule
from tracking.store.maintenance.arriving import Settled, settle_arrivals
from tracking.store.maintenance.digest import route_sha256
from tracking.store.maintenance.judging import RouteVerdicts, judge_track
from tracking.store.outbox.summarized import Describe, SettledTrip, tell_summary
from tracking.store.read.summaries import MOST_SETTLED, sum_up
from tracking.store.read.tracks import track_of_id
from tracking.store.statements import transaction

# Roughly five metres; enough for a picture of the route.
SIMPLIFIED_DEGREES: Final = 0.00005


def waiting_tracks(engine: sa.Engine, limit: int, without: Collection[UUID] = ()) -> list[UUID]:
    """Ended trips whose metadata are not current, the one that ended first before the others."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT id FROM tracks
            WHERE NOT metadata_current AND status <> 'active' AND route_expired_at IS NULL
                AND id <> ALL(%s::uuid[])
            ORDER BY completed_at LIMIT %s
            """,
            (list(without), limit),
        )
        return [track_id for (track_id,) in cursor]


def update_metadata(
    engine: sa.Engine,
    track_id: UUID,
    rule: Rule = STANDARD,
    tell: Callable[[Settled], None] = lambda _: None,
    describe: Describe | None = None,
) -> RouteVerdicts | None:
    """Judge one ended trip's waypoints, and compute its metadata from those that are OK. `tell` is
    called with what became known of its arrivals; `describe` makes what other services are told of
    the summary, and without it they are told nothing.

    Takes no lock for which ingest would wait longer than for a few rows: a track that changed
    meanwhile stays not current, and None comes back if not even its verdicts could be stored.
    """
    try:
        judged = judge_track(engine, track_id, rule)
        if judged is None:
            return None
        settled = settle_arrivals(engine, track_id, judged.version)
        if settled is None:
            return None
        summed_up = _sum_up(engine, track_id, judged)
    except LookupError:
        return None  # it was erased meanwhile
    tell(settled)
    with transaction(engine) as cursor:
        # It cannot be erased before this is committed.
        cursor.execute("SELECT FROM tracks WHERE id = %s FOR KEY SHARE", (track_id,))
        cursor.execute(_UPSERT, _values(summed_up, judged, rule))
        if describe is None or tell_summary(cursor, summed_up, describe):
            cursor.execute(
                "UPDATE tracks SET metadata_current = true WHERE id = %s AND version = %s",
                (track_id, settled.version),
            )
    return judged


def _sum_up(engine: sa.Engine, track_id: UUID, judged: RouteVerdicts) -> SettledTrip:
    track = track_of_id(engine, track_id)
    summary = sum_up(engine, track, None, MOST_SETTLED).summary
    return SettledTrip(track, summary, judged.implausible, route_sha256(engine, track))


def _values(summed_up: SettledTrip, judged: RouteVerdicts, rule: Rule) -> dict[str, object]:
    """What is computed here; the rest is from the rows."""
    track, summary = summed_up.track, summed_up.summary
    return {
        "id": track.id,
        "distance": judged.distance_mm / 1000,
        "flagged": judged.flagged,
        "implausible": judged.implausible,
        "rule": msgspec.json.encode(rule).decode(),
        "moving": summary and summary.times.moving_s,
        "average": summary and summary.speeds.average_kmh,
        "longest_gap": summary and summary.longest_gap_s,
        "stops": summary and len(summary.stops),
        "version": track.version,
        "summary": summary and msgspec.json.encode(summary).decode(),
        "sha256": summed_up.route_sha256,
    }


# Each waypoint of the route that is OK, with the leg that leads to it. `wraps` is -1 where that leg
# crosses the antimeridian eastwards, 1 westwards, else 0; `part` counts the crossings up to here,
# `turn` is the sum of `wraps`, so that longitude - 360 * turn never jumps.
_ROUTE: Final = """
    head AS (
        SELECT id, head_seq, waypoint_count, (distance_mm + left_out_mm) / 1000.0 AS reported_m,
            greatest(extract(epoch FROM completed_at - started_at), 0) AS duration,
            %(distance)s AS distance_m, %(moving)s::float8 AS moving,
            %(average)s::float8 AS average
        FROM tracks WHERE id = %(id)s
    ), places AS (
        SELECT *, ST_X(position) AS x, ST_Y(position) AS y,
            lag(position) OVER w AS before,
            extract(epoch FROM recorded_at - lag(recorded_at) OVER w) AS gap,
            row_number() OVER w AS number
        FROM waypoints
        WHERE track_id = %(id)s AND in_route AND verdict = 0
            AND seq <= (SELECT head_seq FROM head)
        WINDOW w AS (ORDER BY recorded_at, runner_id, reported_at, ST_X(position),
                     ST_Y(position))
    ), legs AS (
        SELECT *, ST_X(before) AS x_before,
            ST_Y(before) AS y_before, round((x - ST_X(before)) / 360) AS wraps
        FROM places
    ), route AS (
        SELECT *, sum(coalesce(wraps, 0)) OVER w AS turn,
            sum(abs(coalesce(wraps, 0))) OVER w AS part
        FROM legs WINDOW w AS (ORDER BY number)
    )
"""

# RFC 7946 §3.1.9: the line is cut where it crosses the antimeridian, and both ends lie on it.
_LINE: Final = """
    crossings AS (
        SELECT part, number, wraps,
            y_before + (y - y_before) * coalesce(
                (-180 * wraps - x_before) / nullif(x - 360 * wraps - x_before, 0), 0) AS y
        FROM route WHERE wraps <> 0
    ), vertices AS (
        SELECT part, number * 1.0 AS number, x, y FROM route
        UNION ALL SELECT part - 1, number - 0.5, -180 * wraps, y FROM crossings
        UNION ALL SELECT part, number - 0.5, 180 * wraps, y FROM crossings
    ), parts AS (
        SELECT part, CASE count(*) WHEN 1 THEN ST_MakePoint(min(x), min(y))
            ELSE ST_Simplify(ST_MakeLine(ST_MakePoint(x, y) ORDER BY number), {SIMPLIFIED}, true)
            END AS piece
        FROM vertices GROUP BY part
    ), line AS (
        SELECT ST_SetSRID(CASE count(*) WHEN 1 THEN (array_agg(piece))[1]
            ELSE ST_Collect(piece ORDER BY part) END, 4326) AS simplified
        FROM parts
    )
"""

# `first` and `last`: the western and the eastern end as (-turn, longitude), compared in that order.
_SUMS: Final = """
    sums AS (
        SELECT coalesce(extract(epoch FROM max(recorded_at) - min(recorded_at)), 0) AS recorded,
            max(gap) AS longest_interval,
            -- By its digits, as the summary has it: a real has seven of them.
            max(speed_kmh)::text::float8 AS max_speed,
            min(ARRAY[-turn, x]) AS first, max(ARRAY[-turn, x]) AS last,
            min(y) AS south, max(y) AS north
        FROM route
    ), judged AS (
        SELECT sums.*, head.*,
            -- Else nobody could cover that distance at the speeds that the phone reports: its
            -- speeds are wrong, or the distance is noise.
            coalesce(greatest(average, distance_m * 3.6 / nullif(recorded, 0), 0) <= max_speed,
                false) AS agree,
            (last[1] - first[1]) * 360 + last[2] - first[2] >= 360 AS round_the_world
        FROM sums, head
    )
"""

_UPSERT: Final = f"""
    WITH {_ROUTE},
    {_LINE.format(SIMPLIFIED=SIMPLIFIED_DEGREES)}, {_SUMS}
    INSERT INTO route_metadata (track_id, head_seq, waypoint_count, distance_m, duration_s,
        longest_gap_s, moving_s, average_speed_kmh, max_speed_kmh, west, south, east, north,
        simplified, reported_distance_m, flagged, implausible, verdict_rule,
        track_version, summary, route_sha256, route_sha256_at, reported_max_speed_kmh,
        longest_interval_s, stops, updated_at)
    SELECT s.id, s.head_seq, s.waypoint_count, s.distance_m, s.duration, %(longest_gap)s,
        s.moving, s.average, CASE WHEN s.agree THEN s.max_speed END,
        CASE WHEN s.round_the_world THEN -180 ELSE s.first[2] END, s.south,
        CASE WHEN s.round_the_world THEN 180 ELSE s.last[2] END, s.north, line.simplified,
        s.reported_m, %(flagged)s, %(implausible)s, %(rule)s::jsonb, %(version)s,
        %(summary)s::jsonb, %(sha256)s, now(), s.max_speed, s.longest_interval, %(stops)s, now()
    FROM judged s, line
    ON CONFLICT (track_id) DO UPDATE SET head_seq = excluded.head_seq,
        waypoint_count = excluded.waypoint_count, distance_m = excluded.distance_m,
        duration_s = excluded.duration_s, longest_gap_s = excluded.longest_gap_s,
        moving_s = excluded.moving_s, average_speed_kmh = excluded.average_speed_kmh,
        max_speed_kmh = excluded.max_speed_kmh, west = excluded.west, south = excluded.south,
        east = excluded.east, north = excluded.north, simplified = excluded.simplified,
        reported_distance_m = excluded.reported_distance_m, flagged = excluded.flagged,
        implausible = excluded.implausible, verdict_rule = excluded.verdict_rule,
        track_version = excluded.track_version, summary = excluded.summary,
        route_sha256 = excluded.route_sha256,
        route_sha256_at = excluded.route_sha256_at,
        reported_max_speed_kmh = excluded.reported_max_speed_kmh,
        longest_interval_s = excluded.longest_interval_s, stops = excluded.stops,
        updated_at = now()
    WHERE NOT route_metadata.route_expired
        AND coalesce(route_metadata.track_version, 0) <= excluded.track_version
"""
