"""Location updates that no track has claimed. Part of the ingest transaction, or of its sweep.

An update whose booking was not accepted yet waits here for a day. One without booking id waits
even when it was applied: a track that is told of late may cover it, too.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import LocationUpdate
from tracking.domain.trips import GRACE
from tracking.store.ingest.erased import IS_ERASED
from tracking.store.sql import execute_rows, interval
from tracking.store.statements import transaction

# Seven hours of a phone that reports every five seconds; beyond it the oldest are refused.
LIMIT_OF_RUNNER: Final = 5_000

# Longer than two transactions that follow each other: what either has written is seen then.
OVER: Final = timedelta(seconds=90)

_FIELDS: Final = (
    "p.id, p.runner_id, p.booking_id, ST_X(p.position), ST_Y(p.position), p.speed_kmh,"
    " p.heading_degrees, p.recorded_at, p.reported_at, p.received_at, p.occurred_at"
)

_WITHIN: Final = (
    f"a.started_at <= p.recorded_at + {interval(GRACE)}"
    f" AND (a.ended_at IS NULL OR a.ended_at >= p.recorded_at - {interval(GRACE)})"
)


class Parked(LocationUpdate, frozen=True, gc=False, kw_only=True):
    """A parked update with its row's id."""

    id: int


def park(
    cursor: Cursor, updates: Sequence[tuple[LocationUpdate, bool]]
) -> tuple[set[int], set[int]]:
    """Store updates, each with whether it was applied; the indexes of those that were not there,
    and of those that were not stored since their time was erased.
    """
    keys: dict[tuple[object, ...], int] = {}
    for index, (update, _) in enumerate(updates):
        keys.setdefault(_key(update), index)
    found = execute_rows(
        cursor,
        _PARK,
        [_row(*updates[i]) for _, i in sorted(keys.items(), key=lambda item: str(item[0]))],
        "(%s, %s::uuid, %s, %s, %s, %s, %s::real, %s::real,"
        " ST_SetSRID(ST_MakePoint(%s, %s), 4326), %s)",
    )
    sorted_out: tuple[set[int], set[int]] = set(), set()
    for is_erased, *key in found:
        sorted_out[is_erased].add(keys[tuple(key)])
    return sorted_out


_COLUMNS: Final = (
    "runner_id, booking_id, reported_at, occurred_at, recorded_at, received_at, speed_kmh,"
    " heading_degrees, position, applied"
)
_KEY: Final = "runner_id, booking_id, reported_at, occurred_at, ST_X(position), ST_Y(position)"
_PARK: Final = f"""
    WITH reports AS (
        SELECT v.*, {IS_ERASED} AS is_erased FROM (VALUES %s) v ({_COLUMNS})
    ), parked AS (
        INSERT INTO parked_updates ({_COLUMNS})
        SELECT {_COLUMNS} FROM reports WHERE NOT is_erased
        ON CONFLICT ON CONSTRAINT parked_updates_key DO NOTHING
        RETURNING {_KEY}
    )
    SELECT false, * FROM parked UNION ALL SELECT true, {_KEY} FROM reports WHERE is_erased
"""


def _key(update: LocationUpdate) -> tuple[UUID, UUID | None, datetime, datetime, float, float]:
    """Copies that the platform heard of at other times wait side by side."""
    return (
        update.runner_id,
        update.booking_id,
        update.reported_at,
        update.occurred_at or update.recorded_at,
        update.longitude,
        update.latitude,
    )


def _row(update: LocationUpdate, applied: bool) -> tuple[object, ...]:
    return (
        update.runner_id,
        update.booking_id,
        update.reported_at,
        update.occurred_at or update.recorded_at,
        update.recorded_at,
        update.received_at,
        update.speed_kmh,
        update.heading_degrees,
        update.longitude,
        update.latitude,
        applied,
    )


def adoptable(
    cursor: Cursor, booking_ids: Collection[UUID], ids: Collection[int] | None = None
) -> list[Parked]:
    """What waits for these bookings, or for their runners while they had them, in order.

    Only the rows with these ids, if they are given.
    """
    if not booking_ids or (ids is not None and not ids):
        return []
    cursor.execute(
        f"""
        SELECT {_FIELDS} FROM parked_updates p WHERE p.booking_id = ANY(%(ids)s)
        UNION
        SELECT {_FIELDS} FROM assignments a JOIN parked_updates p
          ON p.runner_id = a.runner_id AND p.booking_id IS NULL
          AND {_WITHIN}
        WHERE a.booking_id = ANY(%(ids)s)
        ORDER BY received_at, id
        """,
        {"ids": list(booking_ids)},
    )
    found = [_parked(row) for row in cursor]
    return found if ids is None else [update for update in found if update.id in ids]


def waiting_ids(engine: sa.Engine, booking_ids: Collection[UUID]) -> list[int]:
    """Rows that wait for these bookings."""
    with transaction(engine) as cursor:
        return [update.id for update in adoptable(cursor, booking_ids)]


def refuse(engine: sa.Engine, id_: int) -> None:
    """A row that no track can take."""
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM parked_updates WHERE id = %s", (id_,))


def _parked(row: Sequence[object]) -> Parked:
    id_, runner_id, booking_id, *rest = row
    return Parked(runner_id, booking_id, *rest, id=id_)  # type: ignore[arg-type]


def release(cursor: Cursor, updates: Collection[Parked]) -> None:
    """After adoption or refusal: those of a booking go, those without booking id are marked."""
    if not updates:
        return
    ids = [update.id for update in updates]
    cursor.execute(
        "DELETE FROM parked_updates WHERE id = ANY(%s) AND booking_id IS NOT NULL", (ids,)
    )
    cursor.execute(
        "UPDATE parked_updates SET applied = true WHERE id = ANY(%s) AND NOT applied", (ids,)
    )


def claimed_bookings(engine: sa.Engine) -> set[UUID]:
    """Bookings whose track covers what nobody applied: two processes missed each other's.

    Only what was parked in the last ten minutes: no transaction is that long.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            f"""
            SELECT DISTINCT a.booking_id FROM parked_updates p JOIN assignments a
              ON a.runner_id = p.runner_id
              AND (p.booking_id IS NULL AND {_WITHIN} OR p.booking_id = a.booking_id AND (
                {_WITHIN} OR p.reported_at < (
                    SELECT min(o.started_at) FROM assignments o WHERE o.booking_id = a.booking_id
                  ) - {interval(GRACE)} AND {_WITHIN.replace("recorded_at", "occurred_at")}))
            WHERE NOT p.applied AND p.parked_at > now() - interval '10 minutes'
            """
        )
        return {booking_id for (booking_id,) in cursor}


def accepted_since(engine: sa.Engine, since: datetime | None) -> tuple[set[UUID], datetime]:
    """Bookings that were accepted since then and may cover an update without booking id that
    another process applied to others of its runner, not seeing this one; and until when they were.

    Only those of OVER ago: neither transaction lasts any more. None: those of the ten minutes
    before, too.
    """
    with transaction(engine) as cursor:
        cursor.execute(f"SELECT now() - {interval(OVER)}")
        (until,) = cursor.fetchone() or (None,)
        cursor.execute(
            f"""
            SELECT DISTINCT f.booking_id FROM booking_facts f
            JOIN assignments a ON a.booking_id = f.booking_id
            JOIN parked_updates p ON p.runner_id = a.runner_id AND p.booking_id IS NULL
                AND {_WITHIN} AND p.parked_at BETWEEN f.stored_at - {interval(OVER)}
                    AND f.stored_at + {interval(OVER)}
            WHERE f.kind = 'accepted' AND f.stored_at <= %(until)s
                AND f.stored_at > coalesce(%(since)s, %(until)s - interval '10 minutes')
            """,
            {"since": since, "until": until},
        )
        return {booking_id for (booking_id,) in cursor}, until


def is_any_expired(engine: sa.Engine) -> bool:
    """Would `expire` refuse one by its age?"""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM parked_updates WHERE parked_at < now() - interval '1 day')"
        )
        (found,) = cursor.fetchone() or (False,)
        return bool(found)


def expire(engine: sa.Engine) -> int:
    """Refuse what waited a day, or is over its runner's limit; how many were never applied."""
    with transaction(engine) as cursor:
        cursor.execute(
            "DELETE FROM parked_updates WHERE parked_at < now() - interval '1 day'"
            " RETURNING applied"
        )
        gone = cursor.fetchall()
        cursor.execute(
            """
            DELETE FROM parked_updates WHERE id IN (
                SELECT id FROM (
                    SELECT id, row_number() OVER (PARTITION BY runner_id ORDER BY id DESC) AS place
                    FROM parked_updates) ranked
                WHERE place > %s)
            RETURNING applied
            """,
            (LIMIT_OF_RUNNER,),
        )
        gone += cursor.fetchall()
        return sum(not applied for (applied,) in gone)


def count(engine: sa.Engine) -> int:
    """How many wait and were never applied."""
    with transaction(engine) as cursor:
        cursor.execute("SELECT count(*) FROM parked_updates WHERE NOT applied")
        (waiting,) = cursor.fetchone() or (0,)
        return int(waiting)
