"""What the tables say, by plain SQL of our own. Independent of the service."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from tests.running import connect


class Row(NamedTuple):
    """A waypoint."""

    booking_id: str
    runner_id: str
    reported_at: datetime
    recorded_at: datetime
    seq: int
    longitude: float
    latitude: float
    in_route: bool


class Track(NamedTuple):
    """A track and its head."""

    booking_id: str
    status: str
    phase: str
    runner_id: str
    completed_at: datetime | None
    head_seq: int
    waypoint_count: int
    distance_mm: int
    last: tuple[datetime, str, datetime, float, float] | None


class Tables(NamedTuple):
    """All of it, as one transaction sees it."""

    waypoints: list[Row]
    tracks: dict[str, Track]
    facts: list[tuple[str, str, datetime, str | None]]
    parked: set[tuple[str, str | None, datetime]]


WAYPOINTS = """
    SELECT t.booking_id::text, w.runner_id::text, w.reported_at, w.recorded_at, w.seq,
           ST_X(w.position), ST_Y(w.position), w.in_route
    FROM waypoints w JOIN tracks t ON t.id = w.track_id ORDER BY t.booking_id, w.seq
"""
TRACKS = """
    SELECT booking_id::text, status, phase, runner_id::text, completed_at, head_seq,
           waypoint_count, distance_mm, last_recorded_at, last_runner_id::text, last_reported_at,
           ST_X(last_position), ST_Y(last_position)
    FROM tracks
"""
FACTS = "SELECT booking_id::text, kind, occurred_at, runner_id::text FROM booking_facts"
PARKED = "SELECT runner_id::text, booking_id::text, reported_at FROM parked_updates"

# Two processes that store at the same moment see each other's too late: the service looks again.
MISSED = """
    SELECT count(*) FROM parked_updates p WHERE NOT p.applied AND EXISTS (
        SELECT FROM assignments a WHERE a.runner_id = p.runner_id
            AND (p.booking_id IS NULL OR p.booking_id = a.booking_id)
            AND p.recorded_at BETWEEN a.started_at AND coalesce(a.ended_at, 'infinity'))
"""


def read(environ: Mapping[str, str]) -> Tables:
    """One snapshot: what moves from a table to another is in one of them."""
    connection = connect(environ)
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor = connection.cursor()

        def rows(statement: str) -> list[tuple[object, ...]]:
            cursor.execute(statement)
            return cursor.fetchall()

        tracks = [_track(row) for row in rows(TRACKS)]
        return Tables(
            [Row(*row) for row in rows(WAYPOINTS)],  # type: ignore[arg-type]
            {track.booking_id: track for track in tracks},
            [tuple(row) for row in rows(FACTS)],  # type: ignore[misc]
            {tuple(row) for row in rows(PARKED)},  # type: ignore[misc]
        )
    finally:
        connection.close()


def _track(row: tuple[object, ...]) -> Track:
    last = None if row[8] is None else row[8:]
    return Track(*row[:8], last)  # type: ignore[arg-type, call-arg]


def count(environ: Mapping[str, str], table: str) -> int:
    """The number of a table's rows."""
    return _number(environ, f"SELECT count(*) FROM {table}")


def missed(environ: Mapping[str, str]) -> int:
    """How many updates no trip has though one covers them."""
    return _number(environ, MISSED)


def _number(environ: Mapping[str, str], statement: str) -> int:
    connection = connect(environ)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        (number,) = cursor.fetchone() or (0,)
        return int(number)
    finally:
        connection.close()
