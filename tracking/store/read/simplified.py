"""Which waypoints of a route are enough to draw it within some metres."""

from typing import Final, NamedTuple

import sqlalchemy as sa

from tracking.store.engine import translated
from tracking.store.read.points import VERDICT
from tracking.store.read.routes import Place, RouteSlice, chosen, place_behind
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import transaction

# The most: of latitude at the poles. Of longitude at the equator it is 0.3 % less.
METRES_A_DEGREE: Final = 111_694.0

# Plain SQL but for the condition of the page: rows, legs, lines between cuts, on a plane.
_KEPT: Final = f"""
WITH page AS (
    SELECT seq, recorded_at, ST_X(position) AS x, ST_Y(position) AS y,
           {VERDICT} AS verdict, row_number() OVER (ORDER BY {ROUTE_ORDER}) AS place
    FROM waypoints WHERE {{page}} ORDER BY {ROUTE_ORDER} LIMIT %s
), legs AS (
    SELECT *, recorded_at - lag(recorded_at) OVER before > interval '1 second' * %s
           OR abs(x - lag(x) OVER before) > 180 AS is_cut
    FROM page WHERE verdict = 0 OR %s WINDOW before AS (ORDER BY place)
), numbered AS (
    SELECT *, count(*) FILTER (WHERE is_cut) OVER (ORDER BY place) AS number FROM legs
), flat AS (
    SELECT *, x * {METRES_A_DEGREE}
           * cos(radians(min(abs(y)) OVER (PARTITION BY number))) AS east,
           y * {METRES_A_DEGREE} AS north
    FROM numbered
), lines AS (
    SELECT ST_MakeLine(ST_MakePointM(east, north, seq) ORDER BY place) AS line,
           min(seq) AS lone, count(*) AS size
    FROM flat GROUP BY number
)
SELECT lone FROM lines WHERE size = 1
UNION ALL
SELECT ST_M((ST_DumpPoints(ST_Simplify(line, %s, true))).geom)::bigint
FROM lines WHERE size > 1
"""


class Simplification(NamedTuple):
    """By how many metres a simplified line may be off, and where it is split before."""

    metres: float
    gap_s: float
    with_flagged: bool


@translated
def kept(
    engine: sa.Engine,
    part: RouteSlice,
    place: Place | None,
    count: int,
    simplification: Simplification,
) -> list[int]:
    """Which seqs of the next `count` rows stay when their line is simplified (Douglas-Peucker).

    Both ends of each segment, of each page and of each leg across the antimeridian stay. In metres
    on a plane on which nothing is shorter than on the ground, with the seq as M of each vertex.
    """
    beyond, bounds = place_behind(place)
    with transaction(engine) as cursor:
        condition, values = chosen(cursor, part)
        cursor.execute(
            _KEPT.format(page=f"{condition} {beyond}"),
            (*values, *bounds, count, simplification.gap_s, simplification.with_flagged,
             simplification.metres),
        )  # fmt: skip
        return [seq for (seq,) in cursor]
