"""Outgoing events that wait for Kafka: written with their cause, drained by one process at a time.

`tracking.started`, `tracking.completed` and `tracking.corrected` have rows of their own. A position
needs none: see `store.watermarks`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import psycopg2.extras
import sqlalchemy as sa
from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.domain.times import rfc3339
from tracking.domain.tracks import TrackChange
from tracking.store.ingest.track_state import Announcement, TrackState
from tracking.store.outbox import watermarks
from tracking.store.outbox.announced import (
    announcement,
    correction_id,
    differs,
    replaced,
    withdraw,
    write_announced,
)
from tracking.store.sql import execute_rows
from tracking.store.statements import transaction

# Any number: the first process that locks it drains, the others try again.
DRAINER_LOCK: Final = 7_242_001


class OutboxRow(Struct, frozen=True):
    """An event that may go out now: the positions before it have gone out."""

    id: int
    event_id: UUID
    type: str
    booking_id: UUID
    data: dict[str, Any]
    created_at: datetime


def write_lifecycle(
    cursor: Cursor, changes: Iterable[TrackChange], tracks: Mapping[UUID, TrackState]
) -> None:
    """Write the events of these changes. Part of the ingest transaction, after the waypoints, since
    the end of a trip comes with its distance.
    """
    begun = [tracks[c.booking_id] for c in changes if c.old_status is None]
    _write(cursor, [_started(track) for track in begun])
    # A trip that is active again will be announced as completed again, not as corrected.
    resumed = [t for t in tracks.values() if t.announced is not None and t.status == "active"]
    for track in resumed:
        track.announced = None
    completed = [t for t in tracks.values() if t.status == "completed" and t.announced is None]
    _write(cursor, [_completed(track) for track in completed])
    corrected = [t for t in tracks.values() if t.status == "completed" and differs(t)]
    _correct(cursor, corrected)
    ended = [tracks[c.booking_id] for c in changes if c.status != "active" and c.is_visible]
    watermarks.mark_ended(cursor, {track.id for track in [*ended, *corrected]})
    write_announced(cursor, [*resumed, *completed, *corrected])


def _write(cursor: Cursor, rows: Collection[Sequence[object]]) -> None:
    execute_rows(
        cursor,
        "INSERT INTO outbox (event_id, type, booking_id, track_id, after_seq, data) VALUES %s",
        rows,
    )


def _started(track: TrackState) -> tuple[object, ...]:
    at = rfc3339(track.started_at)
    data = {**_identity(track), "started_at": at, "occurred_at": at}
    event_id = uuid5(track.id, "tracking.started")
    return event_id, "tracking.started", track.booking_id, track.id, 0, psycopg2.extras.Json(data)


def _completed(track: TrackState) -> tuple[object, ...]:
    """The row; remembers in the track what it says of the trip's end."""
    assert track.completed_at is not None
    event_id = uuid5(track.id, f"tracking.completed {rfc3339(track.completed_at)}")
    track.announced = announcement(event_id, track)
    return _end_row("tracking.completed", track, track.announced, {})


def _correct(cursor: Cursor, tracks: Sequence[TrackState]) -> None:
    """Write a correction for each. It replaces one that still waits, which nobody has seen."""
    if not tracks:
        return
    seen = withdraw(cursor, tracks)  # what consumers have seen last
    rows = []
    for track in tracks:
        assert track.announced is not None
        before = track.announced = seen.get(track.id, track.announced)
        if differs(track):  # else the track is again as consumers know it
            track.announced = announcement(correction_id(track, before), track)
            rows.append(_corrected(track, before))
    _write(cursor, rows)


def _corrected(track: TrackState, before: Announcement) -> tuple[object, ...]:
    assert track.announced is not None
    return _end_row("tracking.corrected", track, track.announced, replaced(before))


def _end_row(
    type_: str, track: TrackState, end: Announcement, more: Mapping[str, object]
) -> tuple[object, ...]:
    """What is known by now: the rest of its summary takes the whole route, and comes later."""
    at = rfc3339(end.completed_at)
    data = {
        **_identity(track),
        "total_distance_km": end.distance_mm / 1_000_000,
        "reported_distance_km": track.reported_mm / 1_000_000,
        "completed_at": at,
        "occurred_at": at,
        "started_at": rfc3339(track.started_at),
        "duration_s": max((end.completed_at - track.started_at).total_seconds(), 0.0),
        "waypoints": track.waypoint_count,
        **more,
    }
    json = psycopg2.extras.Json(data)
    return end.event_id, type_, track.booking_id, track.id, track.head_seq, json


def _identity(track: TrackState) -> dict[str, object]:
    return {
        "track_id": str(track.id),
        "booking_id": str(track.booking_id),
        "runner_id": str(track.runner_id),
        "owner_id": None if track.owner_id is None else str(track.owner_id),
    }


def try_lock_drainer(connection: sa.Connection) -> bool:
    """True if this connection drains now. PostgreSQL frees the lock with the connection."""
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(DRAINER_LOCK))))


def claim_due(engine: sa.Engine, limit: int) -> list[OutboxRow]:
    """Events whose positions have all gone out, oldest first. A claimed row never changes again.

    A row that ingest is about to replace is left for the next round.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            WITH due AS (
                SELECT o.id FROM outbox o LEFT JOIN published_watermarks p USING (track_id)
                WHERE o.after_seq <= coalesce(p.published_seq, o.after_seq) AND NOT EXISTS (
                    SELECT FROM tracks t, waypoints w
                    WHERE t.id = p.track_id AND w.seq <= p.published_seq
                      AND {watermarks.NEWEST_WAITS})
                ORDER BY o.id LIMIT %s FOR UPDATE OF o SKIP LOCKED
            )
            UPDATE outbox o SET taken = true FROM due WHERE o.id = due.id
            RETURNING o.id, o.event_id, o.type, o.booking_id, o.data, o.created_at
            """,
            (limit,),
        )
        return sorted((OutboxRow(*row) for row in cursor), key=lambda row: row.id)


def delete_events(engine: sa.Engine, ids: Collection[int]) -> None:
    if ids:
        with transaction(engine) as cursor:
            cursor.execute("DELETE FROM outbox WHERE id = ANY(%s)", (list(ids),))


def oldest(engine: sa.Engine) -> datetime | None:
    """Since when the oldest event waits, a position or another; None if none does."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT least((SELECT created_at FROM outbox ORDER BY id LIMIT 1),"
            " (SELECT min(unsent_since) FROM published_watermarks WHERE unsent_since IS NOT NULL))"
        )
        (since,) = cursor.fetchone() or (None,)
        return since  # type: ignore[no-any-return]
