"""The waypoints of a route as columns, page by page: one value of rows of one size, numpy."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.domain.points import Points
from tracking.errors import RouteChanged
from tracking.store.engine import translated
from tracking.store.read.routes import Place, RouteSlice, chosen, place_behind
from tracking.store.sql import ROUTE_ORDER, TIME_OF, copy_value
from tracking.store.statements import transaction

# The first page is small: most routes have no second one, and the caller sees it begin.
FIRST_PAGE: Final = 1_000
# 1.5 MB at the most; 20,000 to 50,000 cost the same, fewer cost round trips.
PAGE: Final = 25_000

VERDICT: Final = "verdict"
# More than there are values of it. A verdict stands in the lowest bits of a seq: a field more would
# cost PostgreSQL as much as reading it.
VERDICTS: Final = 8
NOTHING: Final = Points(*(np.zeros(0, kind) for kind in ("i8", "f8", "f8", "i8", "f4", "f4", "i8",
                                                         "i2")))  # fmt: skip

# What the types' binary output functions make: big-endian. The position is EWKB in the server's own
# byte order: 1 for little-endian.
_SQL: Final = {
    "position": "position::bytea",
    "seq_and_verdict": f"int8send(seq * {VERDICTS} + {VERDICT})",
    "recorded_at": "timestamptz_send(recorded_at)",
    "speed_kmh": "float4send(coalesce(speed_kmh, 'NaN'))",
    "heading_degrees": "float4send(coalesce(heading_degrees, 'NaN'))",
    "received_at": "timestamptz_send(received_at)",
}
_FIELDS: Final = {
    "position": [("byte_order", "u1"), ("kind", "<u4"), ("srid", "<u4"), ("longitude", "<f8"),
                 ("latitude", "<f8")],
    "seq_and_verdict": [("seq", ">i8")],
    "recorded_at": [("recorded_at", ">i8")],
    "speed_kmh": [("speed_kmh", ">f4")],
    "heading_degrees": [("heading_degrees", ">f4")],
    "received_at": [("received_at", ">i8")],
}  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = ("recorded_at", "received_at")
# Microseconds from 1970, where numpy counts from, to 2000, where PostgreSQL does.
_SINCE_1970: Final = 946_684_800_000_000


class PointsPage(NamedTuple):
    """`next_place`: where the next page begins; None when this was the last one.

    `kept`: which seqs leave when the route is simplified; None: all.
    """

    points: Points
    next_place: Place | None
    kept: Collection[int] | None = None


@translated
def page(
    engine: sa.Engine, part: RouteSlice, columns: Sequence[str], place: Place | None
) -> PointsPage:
    """The next points after that place in the order. Raises RouteChanged when rows were erased.

    One statement each: no transaction stays open for a slow reader. And one value: psycopg2 takes
    the interpreter's lock for each row that is copied, and waits for it while another thread
    formats.
    """
    most = FIRST_PAGE if place is None else PAGE
    with transaction(engine) as cursor:
        condition, values = chosen(cursor, part)
        beyond, bounds = place_behind(place)
        rows = copy_value(
            cursor,
            f"""
            SELECT string_agg({" || ".join(_SQL[name] for name in columns)}, '')
            FROM (SELECT * FROM waypoints WHERE {condition} {beyond}
                  ORDER BY {ROUTE_ORDER} LIMIT {most + 1}) AS of_page
            """,
            (*values, *bounds),
        )
        points = _points(rows, columns)
        if points.count <= most:
            return PointsPage(points, None)
        return _split(cursor, part, points)


def _split(cursor: Cursor, part: RouteSlice, points: Points) -> PointsPage:
    """Without the rows of its last time, where the next page begins.

    A page goes on by time alone, since an index takes a fifth less for that than for the whole
    order. Only where a page is of one time it goes on behind its last row.
    """
    last = int(points.recorded_at[-1])
    count = int(np.searchsorted(points.recorded_at, last))
    if not count:
        return PointsPage(points, _place(cursor, part, points))
    return PointsPage(points.part(0, count), _EPOCH + timedelta(microseconds=last))


def _place(cursor: Cursor, part: RouteSlice, points: Points) -> Place:
    """Of the last row: the half of its place that other rows are not asked for."""
    seq, microseconds = int(points.seq[-1]), int(points.recorded_at[-1])
    cursor.execute(
        f"""
        SELECT {ROUTE_ORDER} FROM waypoints WHERE track_id = %s AND seq = %s
            AND recorded_at = {TIME_OF} %s
        """,
        (part.track_id, seq, microseconds - _SINCE_1970),
    )
    row: Place | None = cursor.fetchone()
    if row is None:
        raise RouteChanged("the route was erased while it was read")
    return row


def _points(packed: memoryview, columns: Sequence[str]) -> Points:
    rows = np.frombuffer(packed, [field for name in columns for field in _FIELDS[name]])
    assert (rows["byte_order"] == 1).all(), "PostgreSQL runs on a big-endian machine"
    names = rows.dtype.names or ()
    empty = NOTHING.columns()
    found = {
        name: rows[name].astype(zeros.dtype) if name in names else np.zeros(len(rows), zeros.dtype)
        for name, zeros in empty.items()
    }
    for name in _TIMES:
        if name in names:
            found[name] += _SINCE_1970
    found["seq"], verdicts = np.divmod(found["seq"], VERDICTS)
    found["verdict"] = verdicts.astype("i2")
    return Points(**found)
