"""What an operator sees of a trip: its record, its events, its points; and the search for one."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.events import CLOCK_TOLERANCE
from tracking.domain.routes import Order
from tracking.store.engine import translated
from tracking.store.read.routes import PAGE, RouteSlice, place_behind
from tracking.store.sql import ROUTE_ORDER, interval
from tracking.store.statements import transaction


class TripRecord(Struct, frozen=True):
    """A track's row; times in milliseconds since 1970, points as longitude and latitude."""

    id: UUID
    epoch: str
    version: int
    head_seq: int
    booking_id: UUID
    booking_number: str | None
    status: str
    phase: str
    runner_id: UUID
    owner_id: UUID | None
    started_at: int
    picked_up_at: int | None
    completed_at: int | None
    end_reason: str | None
    distance_mm: int
    left_out_mm: int
    pickup: list[float] | None
    dropoff: list[float] | None
    route_expired_at: int | None


class TripEvent(Struct, frozen=True):
    """A fact of the booking; `heard_at`: when Kafka got it, null for what was stored long ago."""

    kind: str
    occurred_at: int
    heard_at: int | None
    runner_id: UUID | None


class TripPoint(Struct, frozen=True, gc=False):
    """A waypoint of the route, and where it stands in it."""

    seq: int
    recorded_at: int
    received_at: int
    longitude: float
    latitude: float
    speed_kmh: float | None
    verdict: int
    order: Order


def _ms(time: str) -> str:
    return f"floor(extract(epoch FROM {time}) * 1000)::bigint"


def _pair(point: str) -> str:
    return f"CASE WHEN {point} IS NOT NULL THEN ARRAY[ST_X({point}), ST_Y({point})] END"


_RECORD: Final = f"""
    t.id, t.epoch, t.version, t.head_seq, t.booking_id, t.booking_number, t.status, t.phase,
    t.runner_id, t.owner_id, {_ms("t.started_at")}, {_ms("t.picked_up_at")},
    {_ms("t.completed_at")}, t.end_reason, t.distance_mm, t.left_out_mm,
    {_pair("t.pickup")}, {_pair("t.dropoff")}, {_ms("t.route_expired_at")}
"""
# As the trip is computed of them: a clock that is ahead is bounded by Kafka's.
_EVENT_ORDER: Final = f"least(occurred_at, heard_at + {interval(CLOCK_TOLERANCE)}), occurred_at, id"


@translated
def find_trip(engine: sa.Engine, booking_id: UUID) -> TripRecord | None:
    """None before the booking was accepted."""
    with transaction(engine) as cursor:
        cursor.execute(f"SELECT {_RECORD} FROM tracks t WHERE booking_id = %s", (booking_id,))
        row: tuple[Any, ...] | None = cursor.fetchone()
    return None if row is None else TripRecord(*row)


@translated
def trip_events(engine: sa.Engine, booking_id: UUID) -> list[TripEvent]:
    """In the order in which they count."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT kind, {_ms("occurred_at")}, {_ms("heard_at")}, runner_id
            FROM booking_facts WHERE booking_id = %s ORDER BY {_EVENT_ORDER}
            """,
            (booking_id,),
        )
        return [TripEvent(*row) for row in cursor]


@translated
def search_trips(
    engine: sa.Engine, search: str, status: str | None, limit: int
) -> list[TripRecord]:
    """Those whose booking number has `search` in it, in either case; the newest first."""
    wanted = search.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT {_RECORD} FROM tracks t
            WHERE (%s = '' OR booking_number ILIKE %s) AND (%s IS NULL OR status = %s)
            ORDER BY started_at DESC, id DESC LIMIT %s
            """,
            (search, f"%{wanted}%", status, status, limit),
        )
        return [TripRecord(*row) for row in cursor]


@translated
def trip_points(engine: sa.Engine, part: RouteSlice, after: Order | None) -> list[TripPoint]:
    """As `routes.page`, with what an operator sees besides."""
    beyond, place = place_behind(after)
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT seq, {_ms("recorded_at")}, {_ms("received_at")}, ST_X(position), ST_Y(position),
                   speed_kmh, verdict, {ROUTE_ORDER}
            FROM waypoints WHERE track_id = %s {beyond} AND seq > %s AND seq <= %s AND in_route
            ORDER BY {ROUTE_ORDER} LIMIT {PAGE}
            """,
            (part.track_id, *place, part.since_seq, part.head_seq),
        )
        rows: Iterable[tuple[Any, ...]] = cursor
        return [TripPoint(*row[:7], row[7:]) for row in rows]  # type: ignore[call-arg]


class LateSeqs:
    """The waypoints that came when one that was recorded later was there: as ranges of seqs.

    What a phone buffered comes in one go, so there are few ranges, however many points.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in ranges]
        self._ends = [end for _, end in ranges]  # behind the last

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._starts, seq) - 1
        return at >= 0 and seq < self._ends[at]


@translated
def late_seqs(engine: sa.Engine, part: RouteSlice) -> LateSeqs:
    """Of all that came, also what has left the route: the marker stood there."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT lower(span), upper(span)
            FROM (SELECT unnest(range_agg(int8range(seq, seq, '[]'))) AS span
                  FROM (SELECT seq, recorded_at < max(recorded_at) OVER (
                            ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS late
                        FROM waypoints WHERE track_id = %s AND seq <= %s) w
                  WHERE late) r
            ORDER BY lower(span)
            """,
            (part.track_id, part.head_seq),
        )
        return LateSeqs([(int(start), int(end)) for start, end in cursor])
