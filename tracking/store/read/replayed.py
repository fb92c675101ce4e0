"""A trip that is shown again, page by page: one statement each, no transaction stays open.

What is flagged is left out, as in exports. Each page says who may see it by now.
"""

from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace
from psycopg2.extensions import cursor as Cursor

from tracking.domain.access import BookingAccess
from tracking.domain.playback import ReplayOrder
from tracking.domain.routes import Order
from tracking.domain.waypoints import StoredWaypoint
from tracking.errors import NotFound, RouteChanged, RouteExpired
from tracking.store.engine import translated
from tracking.store.read.routes import RouteSlice, chosen, place_behind
from tracking.store.read.spans import COLUMNS, stored_waypoint
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import transaction

# Four seconds of a phone that reports each second, sixty times as fast; 50 kB as objects.
PAGE: Final = 250
_NEWEST_FIRST: Final = ", ".join(f"{column} DESC" for column in ROUTE_ORDER.split(", "))


class Replayed(Struct, frozen=True):
    """Which trip, up to which seq, of which times of which order."""

    booking_id: UUID
    track_id: UUID
    epoch: str
    head_seq: int
    order: ReplayOrder
    since: datetime | None = None
    until: datetime | None = None


class Place(NamedTuple):
    """Of a waypoint in both orders."""

    seq: int
    order: Order


class ReplayPage(NamedTuple):
    """`last`: the place to go on behind; None when this was the last page."""

    access: BookingAccess
    waypoints: list[StoredWaypoint]
    last: Place | None


@translated
def replay_access(engine: sa.Engine, part: Replayed) -> BookingAccess:
    """Who may see it now; raises NotFound, RouteExpired or RouteChanged when nobody does."""
    with transaction(engine) as cursor:
        return _access(cursor, part)


def _access(cursor: Cursor, part: Replayed) -> BookingAccess:
    cursor.execute(
        "SELECT b.owner_id, t.runner_id, t.epoch, t.route_expired_at"
        " FROM tracks t JOIN bookings b USING (booking_id) WHERE t.id = %s",
        (part.track_id,),
    )
    row = cursor.fetchone()
    if row is None:
        raise NotFound("no such booking")
    owner_id, runner_id, epoch, expired_at = row
    if expired_at is not None:
        raise RouteExpired("the route was erased for its age")
    if epoch != part.epoch:
        raise RouteChanged("the database was restored")
    return BookingAccess(part.booking_id, owner_id, runner_id)


@translated
def replay_bounds(engine: sa.Engine, part: Replayed) -> tuple[datetime, datetime] | None:
    """The first and the last time of what is shown; None if that is nothing."""
    with transaction(engine) as cursor:
        _access(cursor, part)
        time = "recorded_at" if part.order == "recorded" else "received_at"
        condition, values = _shown(cursor, part)
        cursor.execute(f"SELECT min({time}), max({time}) FROM waypoints WHERE {condition}", values)
        first, last = cursor.fetchone() or (None, None)
    return None if first is None else (first, last)


@translated
def replay_page(engine: sa.Engine, part: Replayed, after: Place | None) -> ReplayPage:
    """The next PAGE waypoints behind that place, from `since` on behind None."""
    with transaction(engine) as cursor:
        access = _access(cursor, part)
        order = "seq"
        beyond: str = ""
        place: tuple[object, ...] = ()
        if part.order == "recorded":
            condition, values = _shown(cursor, part)
            beyond, place = place_behind(None if after is None else after.order)
            order = ROUTE_ORDER
        elif after is None:
            condition, values = _shown(cursor, part)
        else:  # what came before `since` lies behind us, and no index would find where it ends
            condition, values = _shown(cursor, replace(part, since=None))
            beyond, place = "AND seq > %s", (after.seq,)
        cursor.execute(
            f"SELECT {COLUMNS}, reported_at FROM waypoints WHERE {condition} {beyond}"
            f" ORDER BY {order} LIMIT {PAGE}",
            (*values, *place),
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    waypoints = [stored_waypoint(part.booking_id, part.track_id, row[:-1]) for row in rows]
    last = _place(rows[-1]) if len(rows) == PAGE else None
    return ReplayPage(access, waypoints, last)


def _place(row: tuple[Any, ...]) -> Place:
    seq, runner_id, longitude, latitude, _, _, recorded_at, _, reported_at = row
    return Place(seq, (recorded_at, runner_id, reported_at, longitude, latitude))


@translated
def standing(engine: sa.Engine, part: Replayed) -> StoredWaypoint | None:
    """Where the marker stood at `since`; None if it had not moved yet."""
    with transaction(engine) as cursor:
        _access(cursor, part)
        until = part.since if part.order == "recorded" else None
        condition, values = _unflagged(cursor, part, None, until)
        if part.order == "arrival":
            condition, values = f"{condition} AND seq < %s", (*values, _first_seq(cursor, part))
        cursor.execute(
            f"SELECT {COLUMNS} FROM waypoints WHERE {condition} ORDER BY {_NEWEST_FIRST} LIMIT 1",
            values,
        )
        row = cursor.fetchone()
    return None if row is None else stored_waypoint(part.booking_id, part.track_id, row)


def _shown(cursor: Cursor, part: Replayed) -> tuple[str, tuple[object, ...]]:
    """A condition for all that is shown, and its parameters."""
    if part.order == "recorded":
        return _unflagged(cursor, part, part.since, part.until)
    condition, values = _unflagged(cursor, part, None, None)
    if part.since is not None:
        condition, values = f"{condition} AND seq >= %s", (*values, _first_seq(cursor, part))
    if part.until is not None:
        condition, values = f"{condition} AND received_at < %s", (*values, part.until)
    return condition, values


def _unflagged(
    cursor: Cursor, part: Replayed, since: datetime | None, until: datetime | None
) -> tuple[str, tuple[object, ...]]:
    condition, values = chosen(cursor, RouteSlice(part.track_id, 0, part.head_seq, since, until))
    return f"{condition} AND verdict = 0", values


def _first_seq(cursor: Cursor, part: Replayed) -> int:
    """Of what came at `since` or later; beyond the head if nothing did."""
    condition, values = _unflagged(cursor, part, None, None)
    cursor.execute(
        f"SELECT min(seq) FROM waypoints WHERE {condition} AND received_at >= %s",
        (*values, part.since),
    )
    (seq,) = cursor.fetchone() or (None,)
    return part.head_seq + 1 if seq is None else int(seq)
