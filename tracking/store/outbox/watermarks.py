"""Positions that are still to go out: the waypoints above their track's published watermark.

A track with something to send has `unsent_since`; a track without a row has nothing. Ingest marks,
under the booking's lock, and only the drainer moves a watermark or takes a mark away.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import (
    TIME_OF,
    execute_rows,
    number_array,
    time_array,
    transaction,
    uuid_array,
)

# Booking locks that the drainer takes at once: ingest waits for them, some milliseconds.
SETTLE_ROWS: Final = 1_000

# Track, first and last seq; no waypoint of it is older than the time.
Span: TypeAlias = tuple[UUID, int, int, datetime]


class UnsentTrack(Struct, frozen=True):
    """A track with something to send. Ids as text: they stay it."""

    id: UUID
    track_id: str
    booking_id: str
    owner_id: str | None
    epoch: str
    started_at: datetime
    published_seq: int
    published_at: datetime | None  # recorded time of the newest position that went out
    last_seq: int  # what may go out now: not what comes after an event that waits
    newest_seq: int | None  # once the trip is over: its newest position, if that is not out


class UnsentWaypoint(Struct, frozen=True, gc=False):
    """A stored waypoint whose turn has come."""

    track_id: str
    seq: int
    runner_id: str
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    received_at: datetime


class Published(Struct):
    """How far a track's positions are out."""

    seq: int
    at: datetime | None  # recorded time of the newest that went out
    received_at: datetime  # of the last one that was looked at: what remains is not older


def mark_grown(cursor: Cursor, tracks: Collection[TrackState]) -> None:
    """These tracks get waypoints above `head_seq`. Part of the ingest transaction."""
    lasts = [track.last and track.last.recorded_at for track in tracks]
    cursor.execute(
        f"""
        WITH v AS (
            SELECT track_id, head_seq, {TIME_OF} last AS last_at
            FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS u (track_id, head_seq, last)
        ), marked AS (
            UPDATE published_watermarks p SET unsent_since = now() FROM v
            WHERE p.track_id = v.track_id AND p.unsent_since IS NULL
        )
        INSERT INTO published_watermarks (track_id, published_seq, published_at, unsent_since)
        SELECT track_id, head_seq, last_at, now() FROM v
        WHERE NOT EXISTS (SELECT FROM published_watermarks p WHERE p.track_id = v.track_id)
        """,
        (
            uuid_array(track.id for track in tracks),
            number_array(track.head_seq for track in tracks),
            time_array(lasts),
        ),
    )


def mark_ended(cursor: Cursor, track_ids: Collection[UUID]) -> None:
    """The newest position of an ended trip goes out. Part of the ingest transaction."""
    if track_ids:
        cursor.execute(
            "UPDATE published_watermarks SET unsent_since = now()"
            " WHERE track_id = ANY(%s) AND unsent_since IS NULL",
            (list(track_ids),),
        )


# A trip is over and its newest position lies below the watermark, thinned away.
NEWEST_WAITS: Final = """
    t.status <> 'active' AND p.published_at < t.last_recorded_at AND w.track_id = t.id
    AND w.recorded_at = t.last_recorded_at AND w.runner_id = t.last_runner_id
    AND w.reported_at = t.last_reported_at
"""


def unsent_tracks(engine: sa.Engine, limit: int) -> list[UnsentTrack]:
    """Those that have waited longest. Nothing else is looked at."""
    with transaction(engine) as cursor:
        cursor.execute(UNSENT_TRACKS, (limit,))
        return [UnsentTrack(*row) for row in cursor]


UNSENT_TRACKS: Final = f"""
    SELECT t.id, t.id::text, t.booking_id::text, t.owner_id::text, t.epoch, t.started_at,
           p.published_seq, p.published_at,
           greatest(p.published_seq, coalesce(
               (SELECT min(o.after_seq) FROM outbox o WHERE o.track_id = t.id), t.head_seq)),
           (SELECT w.seq FROM waypoints w WHERE {NEWEST_WAITS})
    FROM published_watermarks p JOIN tracks t ON t.id = p.track_id
    WHERE p.unsent_since IS NOT NULL ORDER BY p.unsent_since LIMIT %s
"""


def waypoints_in(engine: sa.Engine, spans: Sequence[Span]) -> list[UnsentWaypoint]:
    """In the order of seq. The time spares a look into every month's partition."""
    if not spans:
        return []
    tracks, firsts, lasts, times = zip(*spans, strict=True)
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT w.track_id::text, w.seq, w.runner_id::text, ST_X(w.position), ST_Y(w.position),
                   w.speed_kmh, w.heading_degrees, w.recorded_at, w.received_at
            FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[])
                AS v (track_id, first_seq, last_seq, begins)
            CROSS JOIN LATERAL (
                SELECT * FROM waypoints w
                WHERE w.track_id = v.track_id AND w.seq BETWEEN v.first_seq AND v.last_seq
                  AND w.recorded_at >= {TIME_OF} v.begins - interval '1 minute'
                OFFSET 0
            ) w
            ORDER BY w.seq
            """,
            (uuid_array(tracks), number_array(firsts), number_array(lasts), time_array(times)),
        )
        return [UnsentWaypoint(*row) for row in cursor]


def advance(engine: sa.Engine, published: Mapping[str, Published]) -> None:
    """Kafka has acknowledged so much of each track."""
    with transaction(engine) as cursor:
        execute_rows(
            cursor,
            "UPDATE published_watermarks p SET published_seq = greatest(p.published_seq, v.seq),"
            " published_at = greatest(p.published_at, v.at),"
            " unsent_since = greatest(p.unsent_since, least(v.received_at, now()))"
            " FROM (VALUES %s) v (track_id, seq, at, received_at) WHERE p.track_id = v.track_id",
            [(track_id, p.seq, p.at, p.received_at) for track_id, p in published.items()],
            "(%s::uuid, %s, %s::timestamptz, %s::timestamptz)",
        )


def skip_positions(engine: sa.Engine) -> None:
    """Where positions do not go out: the watermarks follow the heads."""
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE published_watermarks p"
            " SET published_seq = t.head_seq, published_at = t.last_recorded_at"
            " FROM tracks t WHERE t.id = p.track_id AND p.unsent_since IS NOT NULL"
            " AND (t.head_seq > p.published_seq OR t.status <> 'active')"
        )


def settle(engine: sa.Engine) -> None:
    """Take the mark from tracks that are all out; ended ones lose their watermark.

    Under the booking's lock: ingest then sees either the mark or its absence.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT b.booking_id FROM published_watermarks p
            JOIN tracks t ON t.id = p.track_id AND {_ALL_OUT}
            JOIN bookings b ON b.booking_id = t.booking_id
            LIMIT %s FOR NO KEY UPDATE OF b SKIP LOCKED
            """,
            (SETTLE_ROWS,),
        )
        locked = [booking_id for (booking_id,) in cursor]
        if locked:
            _settle(cursor, locked)


def _settle(cursor: Cursor, locked: Iterable[UUID]) -> None:
    cursor.execute(
        f"""
        WITH settled AS (
            SELECT t.id, t.status FROM tracks t JOIN published_watermarks p ON t.id = p.track_id
            WHERE t.booking_id = ANY(%s) AND {_ALL_OUT}
        ), forgotten AS (
            DELETE FROM published_watermarks p USING settled s
            WHERE p.track_id = s.id AND s.status <> 'active'
        )
        UPDATE published_watermarks p SET unsent_since = NULL FROM settled s
        WHERE p.track_id = s.id AND s.status = 'active'
        """,
        (list(locked),),
    )


_ALL_OUT: Final = """
    p.unsent_since IS NOT NULL AND p.published_seq = t.head_seq
    AND (t.status = 'active' OR coalesce(p.published_at >= t.last_recorded_at, true))
"""
