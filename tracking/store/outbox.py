"""Outgoing events that wait for Kafka: written with their cause, drained by one process at a time.

`tracking.started` and `tracking.completed` have rows of their own. A position needs none: waypoints
above their track's published watermark are what is still to be sent, after a crash too.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import psycopg2.extras
import sqlalchemy as sa
from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.messages import rfc3339
from tracking.store.rows import TrackChange, TrackState
from tracking.store.sql import execute_rows, transaction

# Any number: the first process that locks it drains, the others wait for their turn.
DRAINER_LOCK: Final = 7_242_001


class OutboxRow(Struct, frozen=True):
    """An event that may go out now."""

    id: int
    event_id: UUID
    type: str
    booking_id: UUID
    data: dict[str, Any]
    created_at: datetime


class UnsentWaypoint(Struct, frozen=True, gc=False):
    """A stored waypoint whose `tracking.updated` is still to be sent. Ids as text: they stay it."""

    booking_id: str
    track_id: str
    owner_id: str | None
    seq: int
    runner_id: str
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    received_at: datetime


def write_lifecycle(
    cursor: Cursor, changes: Iterable[TrackChange], tracks: Mapping[UUID, TrackState]
) -> None:
    """Part of the ingest transaction, after the waypoints: a completed trip tells its distance."""
    rows = []
    for change in changes:
        track = tracks[change.booking_id]
        if change.old_status is None:
            rows.append(_started(track))
        if change.status == "completed" and change.old_status != "completed":
            rows.append(_completed(track))
    execute_rows(
        cursor,
        "INSERT INTO outbox (event_id, type, booking_id, track_id, after_seq, data) VALUES %s",
        rows,
    )
    execute_rows(
        cursor,
        "INSERT INTO published_watermarks VALUES %s ON CONFLICT DO NOTHING",
        [(c.track_id, 0) for c in changes if c.old_status is None],
    )


def _started(track: TrackState) -> tuple[object, ...]:
    at = rfc3339(track.started_at)
    data = {**_identity(track), "started_at": at, "occurred_at": at}
    event_id = uuid5(track.id, "tracking.started")
    return event_id, "tracking.started", track.booking_id, track.id, 0, psycopg2.extras.Json(data)


def _completed(track: TrackState) -> tuple[object, ...]:
    assert track.completed_at is not None
    at = rfc3339(track.completed_at)
    data = {
        **_identity(track),
        "total_distance_km": track.distance_mm / 1_000_000,
        "completed_at": at,
        "occurred_at": at,
    }
    event_id = uuid5(track.id, f"tracking.completed {at}")
    json = psycopg2.extras.Json(data)
    return event_id, "tracking.completed", track.booking_id, track.id, track.head_seq, json


def _identity(track: TrackState) -> dict[str, object]:
    return {
        "track_id": str(track.id),
        "booking_id": str(track.booking_id),
        "runner_id": str(track.runner_id),
        "owner_id": None if track.owner_id is None else str(track.owner_id),
    }


def try_lock_drainer(connection: sa.Connection) -> bool:
    """Held until the connection is closed, so that a dead drainer cannot keep it."""
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(DRAINER_LOCK))))


def due_events(engine: sa.Engine, limit: int) -> list[OutboxRow]:
    """Events whose positions have all gone out, oldest first."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT o.id, o.event_id, o.type, o.booking_id, o.data, o.created_at FROM outbox o
            LEFT JOIN published_watermarks p USING (track_id)
            WHERE o.after_seq <= coalesce(p.published_seq, o.after_seq) ORDER BY o.id LIMIT %s
            """,
            (limit,),
        )
        return [OutboxRow(*row) for row in cursor]


def delete_events(engine: sa.Engine, ids: Sequence[int]) -> None:
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM outbox WHERE id = ANY(%s)", (list(ids),))


def unsent_waypoints(engine: sa.Engine, limit: int) -> list[UnsentWaypoint]:
    """Above their track's watermark, each track's in seq order, `limit` in all at the most."""
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT t.booking_id::text, t.id::text, t.owner_id::text, w.seq, w.runner_id::text,
                   ST_X(w.position),
                   ST_Y(w.position), w.speed_kmh, w.heading_degrees, w.recorded_at, w.received_at
            FROM published_watermarks p
            JOIN tracks t ON t.id = p.track_id AND t.head_seq > p.published_seq
            CROSS JOIN LATERAL (
                SELECT * FROM waypoints w
                WHERE w.track_id = t.id AND w.seq > p.published_seq
                ORDER BY w.seq LIMIT %s
            ) w
            LIMIT %s
            """,
            (limit, limit),
        )
        return [UnsentWaypoint(*row) for row in cursor]


def advance_watermarks(engine: sa.Engine, sent: Mapping[str, int]) -> None:
    """Each track's waypoints up to the given seq have been acknowledged by Kafka."""
    with transaction(engine) as cursor:
        execute_rows(
            cursor,
            "UPDATE published_watermarks p SET published_seq = v.seq"
            " FROM (VALUES %s) v (track_id, seq) WHERE p.track_id = v.track_id::uuid",
            list(sent.items()),
        )


def skip_positions(engine: sa.Engine) -> None:
    """Where positions do not go out: the watermarks follow the heads."""
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE published_watermarks p SET published_seq = t.head_seq FROM tracks t"
            " WHERE t.id = p.track_id AND t.head_seq > p.published_seq"
        )


def forget_ended(engine: sa.Engine) -> None:
    """Drop the watermarks of ended tracks that are all out.

    Under the booking's lock: ingest then sees either the watermark or its absence.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT b.booking_id FROM published_watermarks p
            JOIN tracks t ON t.id = p.track_id AND t.status <> 'active'
                AND t.head_seq = p.published_seq
            JOIN bookings b ON b.booking_id = t.booking_id
            ORDER BY b.booking_id LIMIT 1000 FOR NO KEY UPDATE OF b SKIP LOCKED
            """
        )
        locked = [booking_id for (booking_id,) in cursor]
        cursor.execute(
            """
            DELETE FROM published_watermarks p USING tracks t
            WHERE t.booking_id = ANY(%s) AND t.id = p.track_id AND t.status <> 'active'
              AND t.head_seq = p.published_seq
            """,
            (locked,),
        )


def oldest(engine: sa.Engine) -> datetime | None:
    """When the oldest event that still waits was written."""
    with transaction(engine) as cursor:
        cursor.execute("SELECT min(created_at) FROM outbox")
        (created_at,) = cursor.fetchone() or (None,)
        return created_at  # type: ignore[no-any-return]
