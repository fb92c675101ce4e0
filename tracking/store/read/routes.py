"""The waypoints of a route, page by page, in route order."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.domain.routes import Order
from tracking.domain.waypoints import RouteWaypoint
from tracking.store.engine import translated
from tracking.store.read.spans import span_of
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import transaction

# Some 200 kB of Python objects: large enough to be fast, small enough for many at once.
PAGE: Final = 1_000

# Where a page begins: behind this waypoint, or with whatever was recorded then.
Place: TypeAlias = Order | datetime


class RouteSlice(Struct, frozen=True):
    """Which waypoints: newer than `since_seq`, not newer than `head_seq`.

    With `since` only what was recorded then or later, with `until` what was before. `epoch`: the
    track's, as its heads are of that; None where nobody asks.
    """

    track_id: UUID
    since_seq: int
    head_seq: int
    since: datetime | None = None
    until: datetime | None = None
    epoch: str | None = None


@translated
def spans_half_the_globe(engine: sa.Engine, part: RouteSlice) -> bool:
    """Whether two waypoints are more than 180 degrees of longitude apart.

    Only then may a leg cross the antimeridian.
    """
    with transaction(engine) as cursor:
        condition, values = chosen(cursor, part)
        cursor.execute(
            f"""
            SELECT max(ST_X(position)) - min(ST_X(position)) > 180
            FROM waypoints WHERE {condition}
            """,
            values,
        )
        row = cursor.fetchone()
    return bool(row and row[0])


@translated
def page(engine: sa.Engine, part: RouteSlice, after: Order | None) -> list[RouteWaypoint]:
    """The next PAGE waypoints after that place in the order; empty at the end.

    Rows at or below a head never change, so no transaction stays open for a slow reader.
    """
    beyond, place = place_behind(after)
    with transaction(engine) as cursor:
        condition, values = chosen(cursor, part)
        cursor.execute(
            f"""
            SELECT seq, runner_id, ST_X(position), ST_Y(position), speed_kmh, heading_degrees,
                   recorded_at, reported_at
            FROM waypoints WHERE {condition} {beyond}
            ORDER BY {ROUTE_ORDER} LIMIT {PAGE}
            """,
            (*values, *place),
        )
        rows: Iterator[tuple[Any, ...]] = iter(cursor)
        return [RouteWaypoint(*row) for row in rows]


def chosen(cursor: Cursor, part: RouteSlice) -> tuple[str, tuple[object, ...]]:
    """A condition for the slice's rows, and its parameters."""
    span = span_of(cursor, part.track_id)
    if span is None:
        return "false", ()
    condition = "track_id = %s AND seq > %s AND seq <= %s AND in_route"
    condition += " AND recorded_at BETWEEN %s AND %s"
    values: tuple[object, ...] = (part.track_id, part.since_seq, part.head_seq, *span)
    if part.since is not None:
        condition, values = f"{condition} AND recorded_at >= %s", (*values, part.since)
    if part.until is not None:
        condition, values = f"{condition} AND recorded_at < %s", (*values, part.until)
    return condition, values


def place_behind(after: Place | None) -> tuple[str, tuple[object, ...]]:
    """A condition for what follows in the route, and its parameters."""
    if after is None:
        return "", ()
    if isinstance(after, datetime):
        return "AND recorded_at >= %s", (after,)
    return f"AND recorded_at >= %s AND ({ROUTE_ORDER}) > (%s, %s, %s, %s, %s)", (after[0], *after)
