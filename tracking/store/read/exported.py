"""What an export says of its trip, and how many waypoints it has to have; which trips there are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.tracks import TrackView
from tracking.store.engine import translated
from tracking.store.read.routes import RouteSlice, chosen
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import transaction

# Without a summary the usual interval is that of so many waypoints: 14 hours at one in five
# seconds, 10 ms to read.
SAMPLE: Final = 10_000


class ExportStart(Struct, frozen=True):
    """`count`: the waypoints of the slice, those that are flagged among them.

    `judged_at`: verdicts are older; they change without a new version of the track.
    """

    booking_number: str | None
    judged_at: datetime | None
    median_s: float | None  # the summary's, of what is not flagged; None with fewer than two
    count: int


@translated
def export_start(engine: sa.Engine, track: TrackView, part: RouteSlice) -> ExportStart:
    """Asked before the first page is, and compared with what was read in the end."""
    whole = RouteSlice(track.id, 0, track.head_seq)
    with transaction(engine) as cursor:
        condition, values = chosen(cursor, whole)
        cursor.execute(
            f"""
            SELECT (SELECT booking_number FROM tracks WHERE booking_id = %s),
                (SELECT updated_at FROM route_metadata WHERE track_id = %s),
                coalesce(
                    (SELECT (summary #>> '{{record,interval_p50_s}}')::float8
                     FROM route_metadata WHERE track_id = %s AND track_version = %s),
                    (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (
                         SELECT extract(epoch FROM recorded_at - lag(recorded_at)
                                        OVER (ORDER BY {ROUTE_ORDER}))::float8 AS seconds
                         FROM (SELECT * FROM waypoints WHERE {condition} AND verdict = 0
                               ORDER BY {ROUTE_ORDER} LIMIT {SAMPLE}) AS sample) AS intervals))
            """,
            (track.booking_id, track.id, track.id, track.version, *values),
        )
        said: Sequence[Any] = cursor.fetchone() or ()
        if part == whole:
            return ExportStart(said[0], said[1], said[2], track.waypoint_count)
        condition, values = chosen(cursor, part)
        cursor.execute(f"SELECT count(*) FROM waypoints WHERE {condition}", values)
        (count,) = cursor.fetchone() or (0,)
    return ExportStart(said[0], said[1], said[2], count)


@translated
def trips_between(engine: sa.Engine, since: datetime, until: datetime) -> Sequence[UUID]:
    """Bookings whose trips began then and have a route, the oldest first."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id FROM tracks WHERE started_at >= %s AND started_at < %s"
            " AND route_expired_at IS NULL ORDER BY started_at, id",
            (since, until),
        )
        return [booking_id for (booking_id,) in cursor]
