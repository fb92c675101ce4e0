"""Positions that are still to go out: the waypoints above their track's published watermark.

A track is marked by `unsent_since` while it has something to send; one without a row has nothing.
Ingest marks tracks under the booking's lock; only the drainer moves watermarks and removes marks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from psycopg2.extensions import cursor as Cursor

from tracking.domain.trips import GRACE
from tracking.store.ingest.track_state import TrackState
from tracking.store.read.spans import IS_SHOWN, SHOWN_AT
from tracking.store.sql import (
    TIME_OF,
    execute_rows,
    interval,
    number_array,
    time_array,
    uuid_array,
)
from tracking.store.statements import Statements, prepared, transaction

# Bookings that the drainer locks at once: ingest waits for them, some milliseconds.
UNMARKED_AT_ONCE: Final = 1_000

# Track, first and last seq; no waypoint of it is older than the time.
Span: TypeAlias = tuple[UUID, int, int, datetime]


class UnsentTrack(Struct, frozen=True):
    """A track with something to send. Ids are text, as they are sent."""

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
    """A stored waypoint above its track's watermark."""

    track_id: str
    seq: int
    runner_id: str
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    received_at: datetime
    is_shown: bool  # one that has left the route, or is left out of it, is passed over


class Published(Struct):
    """Up to where a track's positions have gone out."""

    seq: int
    at: datetime | None  # recorded time of the newest that went out
    received_at: datetime  # of the last one that was read: what remains is not older


def mark_grown(cursor: Statements, tracks: Collection[TrackState]) -> None:
    """These tracks get waypoints above `head_seq`. Part of the ingest transaction."""
    lasts = [track.shown and track.shown.recorded_at for track in tracks]
    cursor.later(
        _MARK_GROWN,
        (
            uuid_array(track.id for track in tracks),
            number_array(track.head_seq for track in tracks),
            time_array(lasts),
        ),
    )


_MARK_GROWN: Final = prepared(
    "mark_grown",
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
NEWEST_WAITS: Final = f"""
    t.status <> 'active' AND p.published_at < {SHOWN_AT} AND w.in_route AND {IS_SHOWN}
"""


def unsent_tracks(engine: sa.Engine, limit: int) -> list[UnsentTrack]:
    """Marked tracks, those first that have waited longest."""
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
    """In the order of seq. The time of a span excludes the older months' partitions."""
    if not spans:
        return []
    tracks, firsts, lasts, times = zip(*spans, strict=True)
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT w.track_id::text, w.seq, w.runner_id::text, ST_X(w.position), ST_Y(w.position),
                   w.speed_kmh, w.heading_degrees, w.recorded_at, w.received_at,
                   w.in_route AND w.verdict = 0
            FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[])
                AS v (track_id, first_seq, last_seq, begins)
            CROSS JOIN LATERAL (
                SELECT * FROM waypoints w
                WHERE w.track_id = v.track_id AND w.seq BETWEEN v.first_seq AND v.last_seq
                  AND w.recorded_at >= {TIME_OF} v.begins - {interval(GRACE)}
                OFFSET 0
            ) w
            ORDER BY w.seq
            """,
            (uuid_array(tracks), number_array(firsts), number_array(lasts), time_array(times)),
        )
        return [UnsentWaypoint(*row) for row in cursor]


def advance(engine: sa.Engine, published: Mapping[str, Published]) -> None:
    """Move watermarks: Kafka has acknowledged what lies below. Keys are track ids."""
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
    """Move all watermarks to the heads, when settings say that positions do not go out."""
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE published_watermarks p"
            f" SET published_seq = t.head_seq, published_at = {SHOWN_AT}"
            " FROM tracks t WHERE t.id = p.track_id AND p.unsent_since IS NOT NULL"
            " AND (t.head_seq > p.published_seq OR t.status <> 'active')"
        )


def unmark_sent(engine: sa.Engine) -> None:
    """Remove the marks of tracks that have nothing left to send; ended ones lose their watermark.

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
            (UNMARKED_AT_ONCE,),
        )
        locked = [booking_id for (booking_id,) in cursor]
        if locked:
            _unmark(cursor, locked)


def _unmark(cursor: Cursor, locked: Iterable[UUID]) -> None:
    cursor.execute(
        f"""
        WITH sent AS (
            SELECT t.id, t.status FROM tracks t JOIN published_watermarks p ON t.id = p.track_id
            WHERE t.booking_id = ANY(%s) AND {_ALL_OUT}
        ), forgotten AS (
            DELETE FROM published_watermarks p USING sent s
            WHERE p.track_id = s.id AND s.status <> 'active'
        )
        UPDATE published_watermarks p SET unsent_since = NULL FROM sent s
        WHERE p.track_id = s.id AND s.status = 'active'
        """,
        (list(locked),),
    )


_ALL_OUT: Final = f"""
    p.unsent_since IS NOT NULL AND p.published_seq = t.head_seq
    AND (t.status = 'active' OR coalesce(p.published_at >= {SHOWN_AT}, true))
"""
