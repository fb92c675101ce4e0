"""What has to be done now and then: route metadata, trips that nobody ended, expired links."""

from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from tracking.store.sql import execute_rows, transaction

# Below walking pace a vehicle stands, and its position wanders.
MOVING_KMH: Final = 2.0
# Roughly five metres; enough for a picture of the route.
SIMPLIFIED_DEGREES: Final = 0.00005
# A running trip's metadata may be so far behind; an ended trip's are settled at once.
RUNNING_AGE: Final = "30 seconds"


def settle_metadata(engine: sa.Engine, limit: int = 50) -> int:
    """Compute the metadata of tracks that grew or ended; how many there were.

    Without a lock, for which ingest would wait: a track that grew meanwhile stays unsettled.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT t.id, t.version FROM tracks t LEFT JOIN route_metadata m ON m.track_id = t.id
            WHERE NOT t.settled AND (t.status <> 'active' OR m.updated_at IS NULL
                OR m.updated_at < now() - interval '{RUNNING_AGE}')
            LIMIT %s
            """,
            (limit,),
        )
        found = cursor.fetchall()
        if found:
            cursor.execute(_METADATA, {"ids": [track_id for track_id, _ in found]})
    with transaction(engine) as cursor:
        execute_rows(
            cursor,
            "UPDATE tracks SET settled = true FROM (VALUES %s) v (id, version)"
            " WHERE tracks.id = v.id AND tracks.version = v.version",
            sorted(found),
        )
    return len(found)


_METADATA: Final = f"""
    INSERT INTO route_metadata (track_id, head_seq, distance_m, duration_s, moving_s,
        average_speed_kmh, max_speed_kmh, waypoint_count, longest_gap_s, bounding_box, simplified,
        updated_at)
    SELECT t.id, t.head_seq, t.distance_mm / 1000.0, s.duration, s.moving,
        CASE WHEN s.moving > 0 THEN t.distance_mm / 1000000.0 / (s.moving / 3600.0) END,
        s.max_speed, t.waypoint_count, s.longest_gap, ST_Envelope(s.line),
        ST_Simplify(s.line, {SIMPLIFIED_DEGREES}, true), now()
    FROM tracks t
    CROSS JOIN LATERAL (
        SELECT ST_MakeLine(w.position ORDER BY w.recorded_at, w.runner_id, w.reported_at) AS line,
            coalesce(extract(epoch FROM max(w.recorded_at) - min(w.recorded_at)), 0) AS duration,
            coalesce(sum(w.gap) FILTER (WHERE w.metres > w.gap * {MOVING_KMH} / 3.6), 0) AS moving,
            max(w.gap) AS longest_gap, max(w.speed_kmh) AS max_speed
        FROM (
            SELECT w.*,
                extract(epoch FROM w.recorded_at - lag(w.recorded_at) OVER route) AS gap,
                ST_DistanceSphere(w.position, lag(w.position) OVER route) AS metres
            FROM waypoints w WHERE w.track_id = t.id AND w.in_route AND w.seq <= t.head_seq
            WINDOW route AS (ORDER BY w.recorded_at, w.runner_id, w.reported_at)
        ) w
    ) s
    WHERE t.id = ANY(%(ids)s)
    ON CONFLICT (track_id) DO UPDATE SET head_seq = excluded.head_seq,
        distance_m = excluded.distance_m, duration_s = excluded.duration_s,
        moving_s = excluded.moving_s, average_speed_kmh = excluded.average_speed_kmh,
        max_speed_kmh = excluded.max_speed_kmh, waypoint_count = excluded.waypoint_count,
        longest_gap_s = excluded.longest_gap_s, bounding_box = excluded.bounding_box,
        simplified = excluded.simplified, updated_at = now()
"""


def abandoned_bookings(engine: sa.Engine) -> list[tuple[UUID, datetime]]:
    """Active trips that nobody ended, and when they ended instead.

    Silent for a day: now. Paid ten minutes ago without a delivery: when it was paid.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            """
            SELECT t.booking_id, coalesce(greatest(paid.at, t.started_at), now())
            FROM tracks t
            LEFT JOIN LATERAL (
                SELECT max(f.occurred_at) AS at FROM booking_facts f
                WHERE f.booking_id = t.booking_id AND f.kind = 'paid'
                    AND f.stored_at < now() - interval '10 minutes'
            ) paid ON true
            WHERE t.status = 'active'
                AND (paid.at IS NOT NULL OR t.updated_at < now() - interval '1 day')
            """
        )
        return [(booking_id, at) for booking_id, at in cursor]


def delete_expired_shares(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM share_links WHERE expires_at < now()")


def accept_restored(engine: sa.Engine) -> int:
    """After a restore from a backup, before the replay; how many tracks there are.

    Numbers may be given again, to other waypoints: a new epoch tells who has seen the old ones.
    What waited or ran when the backup was made is not a day old yet: its events come again first.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE tracks SET epoch = left(md5(gen_random_uuid()::text), 16),"
            " version = version + 1, updated_at = now()"
        )
        tracks: int = cursor.rowcount
        cursor.execute("UPDATE parked_updates SET parked_at = now()")
    return tracks
