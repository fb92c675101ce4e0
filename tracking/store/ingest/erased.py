"""What was erased is not stored again, however often it comes. Part of the ingest transaction.

No batch asks for it: the statement that locks the bookings fails if one of them is a tombstone, and
only then is it asked which.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec.structs import replace

from tracking.domain.erasure import NOBODY
from tracking.domain.events import BookingEvent, Event
from tracking.store.sql import uuid_array
from tracking.store.statements import Statements, prepared, transaction

ERASED: Final = "erased"
# Some 200 bytes each. One that is forgotten costs a second transaction when its events come.
LIMIT: Final = 100_000


class ErasedBookings:
    """Bookings that are known to be erased; the one thread that stores batches calls.

    An erasure is for good: what is known here stays true.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._ids: dict[int, None] = {}  # by number, since a UUID is hashed in Python
        self._limit = limit

    def __contains__(self, booking_id: UUID) -> bool:
        return booking_id.int in self._ids

    def learn(self, engine: sa.Engine, booking_ids: Collection[UUID]) -> None:
        """Which of these are erased."""
        with transaction(engine) as cursor:
            cursor.execute(
                "SELECT booking_id FROM bookings"
                " WHERE booking_id = ANY(%s::uuid[]) AND erased_at IS NOT NULL",
                (uuid_array(booking_ids),),
            )
            for (booking_id,) in cursor:
                self._ids[booking_id.int] = None
        while len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]

    def left(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those that are of no erased booking."""
        if not self._ids:
            return events
        return [e for e in events if e.booking_id is None or e.booking_id.int not in self._ids]

    def gone(self, events: Iterable[Event]) -> tuple[int, Counter[str]]:
        """How many location updates are not among `left`, and booking events by kind."""
        gone = [e for e in events if e.booking_id is not None and e.booking_id in self]
        kinds = Counter(e.kind for e in gone if isinstance(e, BookingEvent))
        return len(gone) - kinds.total(), kinds


def lock_unerased(cursor: Statements, booking_ids: Collection[UUID]) -> None:
    """As `bookings.lock_bookings`; if one of them is erased, this or what follows raises what
    `is_noticed` knows, and nothing is written.
    """
    cursor.later(_LOCK, (uuid_array(booking_ids),))


def is_noticed(error: Exception) -> bool:
    """Was a booking of the batch erased?"""
    return _ERASED in str(error)


# SQL raises what it cannot convert; PostgreSQL's log shows the text, too.
_ERASED: Final = "bookings of the batch are erased"
_LOCK: Final = prepared(
    "lock_unerased",
    f"""
    SELECT CASE count(erased_at) WHEN 0 THEN 0 ELSE ('{_ERASED}: ' || count(erased_at))::int END
    FROM (SELECT erased_at FROM bookings WHERE booking_id = ANY(%s::uuid[]) ORDER BY booking_id
          FOR NO KEY UPDATE) locked
    """,
)

# Of a report `v`: whether it is of a time that was erased. One that names a booking is that
# booking's, unless its runner himself was erased.
IS_ERASED: Final = """
    EXISTS (SELECT FROM erased_spans e WHERE e.runner_sha256 = sha256(uuid_send(v.runner_id))
        AND CASE WHEN e.booking_id IS NULL
            THEN least(v.recorded_at, v.reported_at, v.received_at) < e.until
            ELSE v.booking_id IS NULL AND v.recorded_at BETWEEN e.since AND e.until END)
"""


def without_names(cursor: Statements, facts: Sequence[BookingEvent]) -> list[BookingEvent]:
    """The facts of before a runner was erased, without him."""
    runner_ids = {fact.runner_id for fact in facts if fact.runner_id is not None}
    if not runner_ids:
        return list(facts)
    cursor.execute(
        "SELECT v.id, max(e.until) FROM unnest(%s::uuid[]) v (id) JOIN erased_spans e"
        " ON e.runner_sha256 = sha256(uuid_send(v.id)) AND e.booking_id IS NULL GROUP BY v.id",
        (uuid_array(runner_ids),),
    )
    until: dict[UUID | None, datetime] = dict(cursor)
    return [
        replace(fact, runner_id=NOBODY)
        if fact.runner_id in until and fact.believed_at < until[fact.runner_id]
        else fact
        for fact in facts
    ]
