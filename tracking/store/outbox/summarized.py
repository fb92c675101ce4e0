"""`tracking.summarized`: what a trip adds up to, once that is settled, and again when it changes.

What was said last is kept in the track's row (`summarized_*`). Maintenance and verdicts.py.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid5

import msgspec
import psycopg2.extras
from msgspec import Struct

from tracking.domain.erasure import NOBODY
from tracking.domain.legs import Leg
from tracking.domain.summary import Summary
from tracking.domain.times import rfc3339
from tracking.domain.tracks import TrackView
from tracking.store.read.told_arrivals import legs_of
from tracking.store.sql import execute_rows
from tracking.store.statements import Statements

# Nobody waits for the summary of a trip that ended before and of which none was sent: an upgrade,
# or a rule that is changed for all history, is no flood. As arrivals.
TOLD_WITHIN_DAYS: Final = 7
# Some 170 bytes each: a record of Kafka holds 1 MiB, and one that it refuses would stop all others.
MOST_LISTED: Final = 1_000


class SettledTrip(Struct, frozen=True):
    """What is known of an ended trip, once it is settled."""

    track: TrackView
    summary: Summary | None
    implausible: bool
    route_sha256: str | None


# Of track, summary, implausible, route_sha256 and arrivals makes what REST says of them.
Describe: TypeAlias = Callable[
    [TrackView, Summary | None, bool, str | None, list[Leg]], dict[str, Any]
]


def tell_summary(cursor: Statements, settled: SettledTrip, describe: Describe) -> bool:
    """Write the event if it is news; False if somebody else changes the booking right now.

    Does not wait for the booking's lock: who has it may wait for the metadata, to erase them. Who
    comes later waits until this is committed.
    """
    track = settled.track
    cursor.execute(
        "SELECT FROM bookings WHERE booking_id = %s FOR NO KEY UPDATE SKIP LOCKED",
        (track.booking_id,),
    )
    if cursor.fetchone() is None:
        return False
    known = {"id": track.id, "version": track.version}
    cursor.execute(_LAST, known | {"days": TOLD_WITHIN_DAYS, "nobody": NOBODY})
    row = cursor.fetchone()
    if row is not None:
        legs = legs_of(cursor, [track.id])[track.id]
        data = describe(track, settled.summary, settled.implausible, settled.route_sha256, legs)
        _write(cursor, track, _short(data), row)
    return True


# Of a trip whose runner, or one of them, was erased nothing more is said: less of it is left.
_LAST: Final = """
    SELECT t.owner_id, t.summarized_id, t.summarized_content, t.summarized_before
    FROM tracks t
    WHERE t.id = %(id)s AND t.version = %(version)s AND t.status = 'completed'
        AND t.route_expired_at IS NULL
        AND (t.summarized_id IS NOT NULL
            OR t.completed_at > now() - make_interval(days => %(days)s))
        AND NOT EXISTS (SELECT FROM assignments a
                        WHERE a.booking_id = t.booking_id AND a.runner_id = %(nobody)s)
"""


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """A list that is too long for a record is null: it is to be asked for."""
    return {
        name: None if isinstance(value, list) and len(value) > MOST_LISTED else value
        for name, value in data.items()
    }


def _write(
    cursor: Statements,
    track: TrackView,
    data: dict[str, Any],
    row: tuple[UUID | None, UUID | None, UUID | None, UUID | None],
) -> None:
    owner_id, replaces, known, before = row
    content = _content(track, data)
    if content == known:
        return
    waiting = _withdraw(cursor, track.id)
    if waiting is not None:
        replaces, known = waiting[0], before  # nobody has seen the one that waited
    event_id: UUID | None = replaces
    if content != known:
        event_id = uuid5(track.id, f"tracking.summarized {replaces} {content}")
        _insert(cursor, track, event_id, data | _identity(track, owner_id, replaces))
    cursor.execute(
        "UPDATE tracks SET summarized_id = %s, summarized_content = %s, summarized_before = %s"
        " WHERE id = %s",
        (event_id, content, known, track.id),
    )


def _content(track: TrackView, data: dict[str, Any]) -> UUID:
    """The same for what says the same: another numbering of the same route is no news."""
    said = {name: value for name, value in data.items() if name not in {"epoch", "final"}}
    return uuid5(track.id, msgspec.json.encode(said, order="sorted").decode())


def _withdraw(cursor: Statements, track_id: UUID) -> tuple[UUID | None] | None:
    """Delete one that the drainer has not claimed: what it would have replaced."""
    cursor.execute(
        "DELETE FROM outbox WHERE track_id = %s AND type = 'tracking.summarized' AND NOT taken"
        " RETURNING (data->>'replaces')::uuid",
        (track_id,),
    )
    row: tuple[UUID | None] | None = cursor.fetchone()
    return row


def _insert(cursor: Statements, track: TrackView, event_id: UUID, data: dict[str, Any]) -> None:
    """Behind the positions that were known, and so behind the trip's end."""
    execute_rows(
        cursor,
        "INSERT INTO outbox (event_id, type, booking_id, track_id, after_seq, data) VALUES %s",
        [(event_id, "tracking.summarized", track.booking_id, track.id, track.head_seq,
          psycopg2.extras.Json(data))],
    )  # fmt: skip


def _identity(track: TrackView, owner_id: UUID | None, replaces: UUID | None) -> dict[str, object]:
    assert track.completed_at is not None
    return {
        "runner_id": str(track.runner_id),
        "owner_id": None if owner_id is None else str(owner_id),
        "replaces": None if replaces is None else str(replaces),
        "occurred_at": rfc3339(track.completed_at),
    }
