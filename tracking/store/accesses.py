"""The access log: rows are added; only erasure and the log's own retention delete some."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct

from tracking.domain.accesses import Access
from tracking.store.engine import translated
from tracking.store.sql import execute_rows
from tracking.store.statements import Statements, transaction

# So many of the newest hours are listed: half a year of an owner who looks every day.
MOST_LISTED: Final = 1_000


class ListedAccess(Struct, frozen=True):
    """What one reader did in one way within an hour. Who watched all active trips (`fleet`) is
    there with the part of that in which this one was among them.
    """

    reader_id: UUID
    role: str
    way: str
    first_at: datetime
    last_at: datetime
    count: int


@translated
def add(engine: sa.Engine, accesses: Sequence[Access]) -> None:
    """One statement. What is of somebody who was erased meanwhile is not written: an erasure waits
    for this, or this for it.
    """
    with transaction(engine) as cursor:
        execute_rows(
            cursor,
            _ADD,
            [
                (a.reader.booking_id, a.reader.reader_id, a.reader.role, a.reader.way, a.first_at,
                 a.last_at, a.count)
                for a in accesses
            ],
            "(%s::uuid, %s::uuid, %s, %s, %s::timestamptz, %s::timestamptz, %s)",
        )  # fmt: skip


_ADD: Final = """
    WITH v (booking_id, reader_id, role, way, first_at, last_at, count) AS (VALUES %s),
    there AS (
        SELECT booking_id FROM bookings
        WHERE booking_id IN (SELECT booking_id FROM v) AND erased_at IS NULL
        ORDER BY booking_id FOR KEY SHARE
    )
    INSERT INTO accesses (booking_id, reader_id, role, way, first_at, last_at, count)
    SELECT v.* FROM v LEFT JOIN there ON there.booking_id = v.booking_id
    WHERE (v.booking_id IS NULL OR there.booking_id IS NOT NULL) AND NOT EXISTS (
        SELECT FROM erased_spans e WHERE e.runner_sha256 = sha256(uuid_send(v.reader_id))
            AND e.booking_id IS NULL AND v.first_at < e.until)
"""


@translated
def of_booking(engine: sa.Engine, booking_id: UUID) -> list[ListedAccess]:
    """The newest first, by hours."""
    with transaction(engine) as cursor:
        cursor.execute(_OF_BOOKING, {"booking": booking_id, "most": MOST_LISTED})
        return [ListedAccess(*row) for row in cursor]


# No row is of more than an hour: `accesses_booking` finds those of a trip's time.
_OF_BOOKING: Final = """
    WITH its AS (
        SELECT reader_id, role, way, first_at, last_at, count FROM accesses
        WHERE booking_id = %(booking)s
        UNION ALL
        SELECT a.reader_id, a.role, a.way, greatest(a.first_at, t.started_at),
            least(a.last_at, t.ended_at), a.count
        FROM (SELECT started_at, coalesce(completed_at, 'infinity') AS ended_at FROM tracks
              WHERE booking_id = %(booking)s) t
        JOIN accesses a ON a.booking_id IS NULL AND a.last_at >= t.started_at
            AND a.first_at BETWEEN t.started_at - interval '1 hour' AND t.ended_at
    )
    SELECT reader_id, role, way, min(first_at), max(last_at), sum(count)::bigint FROM its
    GROUP BY reader_id, role, way, date_trunc('hour', first_at)
    ORDER BY max(last_at) DESC, reader_id, way LIMIT %(most)s
"""


def may_forget(cursor: Statements) -> None:
    """In this transaction rows may go."""
    cursor.execute("SET LOCAL tracking.forgets_accesses = 'on'")


def delete_before(engine: sa.Engine, time: datetime, limit: int) -> int:
    """What is older than the log is kept, at most so many of its rows; how many."""
    with transaction(engine, whole=True) as cursor:
        may_forget(cursor)
        cursor.execute(
            "DELETE FROM accesses WHERE id = ANY(ARRAY("
            " SELECT id FROM accesses WHERE first_at < %s ORDER BY first_at LIMIT %s))",
            (time, limit),
        )
        return int(cursor.rowcount)
