"""When a track's waypoints were recorded, as constants for the statements that read them.

Without them PostgreSQL plans for every partition of `waypoints`, and locks each: 15 ms for a page
of what was missed beside a hundred partitions, 1 ms with them (docs/operations.md).
"""

from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.trips import GRACE
from tracking.domain.waypoints import StoredWaypoint


def _shown(column: str) -> str:
    """Of the marker; a release that judges nothing adds waypoints and leaves the marker behind."""
    marker = f"CASE WHEN t.judged_seq = t.head_seq THEN t.marker_{column} END"
    return f"coalesce({marker}, t.last_{column})"


# Of `tracks t`: where its newest waypoint is that is OK, as `waypoint_at` takes it.
SHOWN_AT: Final = _shown("recorded_at")
SHOWN_POSITION: Final = _shown("position")
PLACE: Final = f"{SHOWN_AT}, {_shown('runner_id')}, {_shown('reported_at')}, {SHOWN_POSITION}::text"
# ... and a condition that finds it among `waypoints w`.
IS_SHOWN: Final = f"""
    w.track_id = t.id AND w.recorded_at = {SHOWN_AT} AND w.runner_id = {_shown("runner_id")}
    AND w.reported_at = {_shown("reported_at")} AND w.position = {SHOWN_POSITION}
"""
# ... and what it gives back: the columns of a StoredWaypoint.
COLUMNS: Final = (
    "seq, runner_id, ST_X(position), ST_Y(position), speed_kmh, heading_degrees, recorded_at,"
    " received_at"
)


class Span(NamedTuple):
    """No waypoint of the route is older than its first, none newer than its last time."""

    first: datetime
    last: datetime


def span_of(cursor: Cursor, track_id: UUID) -> Span | None:
    """None where the route has no waypoint. As `TrackState.begins_at` and `ends_at` have it."""
    cursor.execute(
        "SELECT min(a.started_at) - %s, t.last_recorded_at"
        " FROM tracks t JOIN assignments a USING (booking_id)"
        " WHERE t.id = %s AND t.last_recorded_at IS NOT NULL GROUP BY t.last_recorded_at",
        (GRACE, track_id),
    )
    row = cursor.fetchone()
    return None if row is None else Span(*row)


def waypoint_at(cursor: Cursor, track_id: UUID, place: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The one waypoint there; None if it was moved since the place was read."""
    cursor.execute(
        f"SELECT {COLUMNS} FROM waypoints WHERE track_id = %s AND recorded_at = %s"
        " AND runner_id = %s AND reported_at = %s AND position = %s::geometry",
        (track_id, *place),
    )
    found: tuple[Any, ...] | None = cursor.fetchone()
    return found


def stored_waypoint(booking_id: UUID, track_id: UUID, row: tuple[Any, ...]) -> StoredWaypoint:
    """Of what `waypoint_at` found."""
    return StoredWaypoint(booking_id, track_id, *row, False)  # type: ignore[call-arg]
