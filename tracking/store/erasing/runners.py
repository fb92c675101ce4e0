"""A runner goes from all bookings that he had; their trips stay, without him and where he was."""

import time
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

import psycopg2.extras
import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.erasure import NOBODY, runner_digest
from tracking.domain.events import FIRST_TIME
from tracking.domain.times import rfc3339
from tracking.domain.verdicts import STANDARD
from tracking.store.accesses import may_forget
from tracking.store.ingest.bookings import lock_bookings
from tracking.store.ingest.route_changes import remeasure
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.ingest.tracks import load_tracks
from tracking.store.statements import Statements, transaction

# Longer than a writer's transaction lasts; who is there still, only reads: a pg_dump, say.
WRITERS_S: Final = 40.0


class RunnersBooking(Struct, frozen=True):
    """A booking that a runner had; `is_active`: he, or somebody else, has it now."""

    booking_id: UUID
    is_active: bool


def bookings_of_runner(
    engine: sa.Engine, runner_id: UUID, before: datetime
) -> list[RunnersBooking]:
    """All in which he is named, of trips that began before then. Reads whole tables.

    What he does after his erasure is kept: none of those trips was under way at that time.
    """
    with transaction(engine) as cursor:
        cursor.execute(_BOOKINGS, {"runner": runner_id, "before": before})
        return [RunnersBooking(*row) for row in cursor]


_BOOKINGS: Final = """
    SELECT b.booking_id, coalesce(t.status = 'active', false)
    FROM bookings b LEFT JOIN tracks t USING (booking_id)
    WHERE b.booking_id IN (
        SELECT booking_id FROM assignments WHERE runner_id = %(runner)s
        UNION SELECT booking_id FROM booking_facts WHERE runner_id = %(runner)s
        UNION SELECT booking_id FROM tracks
            WHERE runner_id = %(runner)s OR last_runner_id = %(runner)s)
        AND (t.started_at IS NULL OR t.started_at < %(before)s)
    ORDER BY b.booking_id
"""


def begin(engine: sa.Engine, runner_id: UUID, before: datetime) -> None:
    """From now on no report of his of before is stored, and no fact names him.

    What was being stored meanwhile is there when this returns: whoever looks for it finds it.
    """
    digest, until = runner_digest(runner_id), rfc3339(before)
    data = {"runner_sha256": digest.hex(), "until": until, "occurred_at": until}
    with transaction(engine, whole=True) as cursor:
        _refuse(cursor, digest, before)
        cursor.execute(
            "INSERT INTO outbox (event_id, type, booking_id, track_id, after_seq, data)"
            " VALUES (%s, 'tracking.runner_erased', %s, %s, 0, %s)",
            (uuid5(NOBODY, f"{digest.hex()} {until}"), NOBODY, NOBODY, psycopg2.extras.Json(data)),
        )
    _wait_for_writers(engine)


def begin_again(engine: sa.Engine, digest: bytes, before: datetime) -> list[UUID]:
    """After a restore: as `begin`; the ids that the backup has with this digest."""
    with transaction(engine, whole=True) as cursor:
        _refuse(cursor, digest, before)
        cursor.execute(
            """
            SELECT DISTINCT runner_id FROM (
                SELECT runner_id FROM assignments UNION SELECT runner_id FROM booking_facts
                UNION SELECT runner_id FROM parked_updates) named
            WHERE sha256(uuid_send(runner_id)) = %s
            """,
            (digest,),
        )
        return [runner_id for (runner_id,) in cursor]


def _refuse(cursor: Statements, digest: bytes, before: datetime) -> None:
    cursor.execute(
        "INSERT INTO erased_spans (runner_sha256, since, until) SELECT %s, %s, %s"
        " WHERE NOT EXISTS (SELECT FROM erased_spans"
        " WHERE runner_sha256 = %s AND booking_id IS NULL AND until >= %s)",
        (digest, FIRST_TIME, before, digest, before),
    )


def _wait_for_writers(engine: sa.Engine) -> None:
    """Until those have ended who asked who is erased before this was known, and may write yet.

    Whoever has asked has a lock on that table until his transaction ends. Who writes in the
    statement that asks has one on the table that he writes.
    """
    with transaction(engine) as cursor:
        cursor.execute(_ASKED, ([], []))
        asked = [holder for (holder,) in cursor]
    deadline = time.monotonic() + WRITERS_S
    while asked and time.monotonic() < deadline:
        time.sleep(0.02)
        with transaction(engine) as cursor:
            cursor.execute(_ASKED, (asked, asked))
            asked = [holder for (holder,) in cursor]
    with transaction(engine, whole=True) as cursor:
        cursor.execute("LOCK TABLE booking_facts, parked_updates, accesses IN SHARE MODE")


# All transactions that hold a lock on the table, or those of a list that still do.
_ASKED: Final = """
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE relation = 'erased_spans'::regclass AND pid <> pg_backend_pid() AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (cardinality(%s::text[]) = 0 OR virtualtransaction = ANY(%s::text[]))
"""


def erase_from_booking(engine: sa.Engine, runner_id: UUID, booking_id: UUID) -> int:
    """His waypoints of it go, and his id; how many went. One transaction under its lock.

    The track begins a new epoch, so that whoever has seen the route loads it anew.
    """
    with transaction(engine, whole=True) as cursor:
        lock_bookings(cursor, [booking_id])
        names = {"runner": runner_id, "booking": booking_id, "nobody": NOBODY}
        for statement in _UNSAY:
            cursor.execute(statement, names)
        cursor.execute(
            "DELETE FROM waypoints w USING tracks t WHERE t.booking_id = %(booking)s"
            " AND w.track_id = t.id AND w.runner_id = %(runner)s",
            names,
        )
        gone = cursor.rowcount
        may_forget(cursor)
        for statement in _WITHOUT_HIM:
            cursor.execute(statement, names)
        tracks = load_tracks(cursor, [booking_id], TrackCache())
        left = [track for track in tracks.values() if not track.route_expired]
        remeasure(cursor, left, STANDARD)  # maintenance judges it again, by what is set
        cursor.execute(_BEGIN_ANEW, names)
        cursor.execute(_UNSUMMARIZE, names)
    return gone


# What his waypoints proved is forgotten, not withdrawn as if it had been wrong. What another one's
# prove stays as it was told; a way that was sampled stays so, or it would count twice.
_HIS: Final = """
    FROM tracks t WHERE t.booking_id = %(booking)s AND a.track_id = t.id AND EXISTS (
        SELECT FROM waypoints w
        WHERE w.track_id = t.id AND w.runner_id = %(runner)s AND ({condition}))
"""
_UNSAY: Final = (
    """
    UPDATE arrivals a SET state = 'en_route', approaching_at = NULL, arrived_at = NULL,
        detected_at = NULL, evidence_seq = NULL, left_at = NULL, event_id = NULL
    """
    + _HIS.format(
        condition="w.seq = a.evidence_seq OR w.recorded_at = a.left_at"
        " OR a.evidence_seq IS NULL AND w.recorded_at = a.arrived_at"
    ),
    """
    UPDATE arrivals a SET approaching_at = NULL,
        state = CASE a.state WHEN 'approaching' THEN 'en_route' ELSE a.state END
    """
    + _HIS.format(condition="w.recorded_at = a.approaching_at"),
)

# Two erased runners may have said the same: then one fact of it is left.
_WITHOUT_HIM: Final = (
    """
    DELETE FROM booking_facts f USING booking_facts o
    WHERE f.booking_id = %(booking)s AND f.runner_id = %(runner)s AND o.booking_id = f.booking_id
        AND o.kind = f.kind AND o.occurred_at = f.occurred_at AND o.runner_id = %(nobody)s
    """,
    "UPDATE booking_facts SET runner_id = %(nobody)s"
    " WHERE booking_id = %(booking)s AND runner_id = %(runner)s",
    "UPDATE assignments SET runner_id = %(nobody)s"
    " WHERE booking_id = %(booking)s AND runner_id = %(runner)s",
    "UPDATE tracks SET runner_id = %(nobody)s"
    " WHERE booking_id = %(booking)s AND runner_id = %(runner)s",
    "UPDATE outbox SET data = jsonb_set(data, '{runner_id}', to_jsonb(%(nobody)s::uuid))"
    " WHERE booking_id = %(booking)s AND data->>'runner_id' = %(runner)s::text",
    # They have where he stood, too, and say so for good.
    "DELETE FROM receipts r USING tracks t WHERE t.booking_id = %(booking)s AND r.track_id = t.id",
    "UPDATE accesses SET reader_id = %(nobody)s"
    " WHERE booking_id = %(booking)s AND reader_id = %(runner)s",
    # It has where he stood.
    "DELETE FROM route_metadata m USING tracks t"
    " WHERE t.booking_id = %(booking)s AND m.track_id = t.id AND NOT m.route_expired",
)
# Its end was announced: that less of the route is left is no correction.
_BEGIN_ANEW: Final = """
    UPDATE tracks SET epoch = left(md5(gen_random_uuid()::text), 16), version = version + 1,
        last_runner_id = nullif(last_runner_id, %(runner)s),
        announced_distance_mm =
            CASE WHEN announced_id IS NOT NULL THEN distance_mm ELSE announced_distance_mm END,
        announced_waypoints =
            CASE WHEN announced_id IS NOT NULL THEN waypoint_count ELSE announced_waypoints END,
        announced_reported_mm = CASE WHEN announced_id IS NOT NULL
            THEN distance_mm + left_out_mm ELSE announced_reported_mm END
    WHERE booking_id = %(booking)s
"""
# What waits has where he stood. Behind the update of the track: whoever settled it was waited for.
_UNSUMMARIZE: Final = (
    "DELETE FROM outbox WHERE booking_id = %(booking)s AND type = 'tracking.summarized'"
)


def forget_parked(engine: sa.Engine, runner_id: UUID, before: datetime) -> int:
    """What waits of him; how many."""
    with transaction(engine) as cursor:
        cursor.execute(
            "DELETE FROM parked_updates"
            " WHERE runner_id = %s AND least(recorded_at, reported_at, received_at) < %s",
            (runner_id, before),
        )
        return int(cursor.rowcount)
