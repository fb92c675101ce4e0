"""For the operator: what is known of a trip, the search for one, and our own metrics. Admins only.

To everybody else these are not there.
"""

from typing import Any, Final

import msgspec
from tornado.iostream import StreamClosedError

from handlers.api.tracks import TrackingHandler, is_named
from handlers.base import BaseHandler, uuid_of
from tracking.domain.access import Principal, may_watch_all
from tracking.errors import InvalidRequest, NotFound
from tracking.store.read.routes import RouteSlice
from tracking.store.read.told_arrivals import arrivals_of
from tracking.store.read.trip_records import (
    TripEvent,
    TripPoint,
    TripRecord,
    find_trip,
    late_seqs,
    search_trips,
    trip_events,
    trip_points,
)
from tracking.wire.arrival_message import arrivals_part

_encode = msgspec.json.encode

COLUMNS: Final = (
    "seq", "recorded_at", "received_at", "longitude", "latitude", "speed_kmh", "late", "verdict",
)  # fmt: skip
STATUSES: Final = ("active", "completed", "cancelled")
USUAL_LIMIT: Final = 20
MOST_TRIPS: Final = 100
# As long as a booking number may be.
LONGEST_SEARCH: Final = 100


async def admin_of(handler: BaseHandler) -> Principal:
    """Who asks; raises InvalidToken, or NotFound for everybody who is no admin."""
    principal = await handler.services.tokens.principal_once_renewed(handler.token())
    if not may_watch_all(principal):
        raise NotFound("not found")
    return principal


class TripHandler(TrackingHandler):
    """`GET /api/v1/ops/trips/{bookingId}`: one trip, to be played back."""

    route = "/api/v1/ops/trips/{bookingId}"

    async def get(self, text: str) -> None:
        principal = await admin_of(self)
        booking_id = uuid_of(text, "booking id")
        trip = await self.services.ask(find_trip, booking_id)
        if trip is None:
            raise NotFound("no such booking")
        self.services.access_log.note(principal, booking_id, "ops")
        etag = f'W/"{trip.epoch}-{trip.version}"'  # every event that changes anything counts up
        self.set_header("ETag", etag)
        self.set_header("Cache-Control", "private, no-cache")
        if is_named(etag, self.request.headers.get("If-None-Match", "")):
            self.set_status(304)
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if await self.was_head():
            return
        events = await self.services.ask(trip_events, booking_id)
        await self._send_trip(trip, events)

    async def _send_trip(self, trip: TripRecord, events: list[TripEvent]) -> None:
        """Page by page, each asked for when the one before it has left."""
        head_seq = trip.head_seq if trip.route_expired_at is None else 0
        part = RouteSlice(trip.id, 0, head_seq)
        late = await self.services.read(late_seqs, part)
        arrivals = arrivals_part(await self.services.ask(arrivals_of, trip.id))
        more = {"arrivals": arrivals, "events": events, "columns": COLUMNS}
        fields = _fields(trip) | more
        self.write(b'{"success":true,"data":' + _encode(fields)[:-1] + b',"points":[')
        comma, after = b"", None
        try:
            while rows := await self.services.read(trip_points, part, after):
                after = rows[-1].order
                await self.send(
                    comma, _encode([_point(row, row.seq in late) for row in rows])[1:-1]
                )
                comma = b","
        except StreamClosedError:
            return  # the caller went away
        self.write(b"]}}")


def _point(row: TripPoint, is_late: bool) -> tuple[Any, ...]:
    return (
        row.seq, row.recorded_at, row.received_at, round(row.longitude, 6), round(row.latitude, 6),
        row.speed_kmh, int(is_late), row.verdict,
    )  # fmt: skip


def _fields(trip: TripRecord) -> dict[str, Any]:
    return {
        "booking_id": trip.booking_id,
        "booking_number": trip.booking_number,
        "status": trip.status,
        "phase": trip.phase,
        "runner_id": trip.runner_id,
        "owner_id": trip.owner_id,
        "started_at": trip.started_at,
        "picked_up_at": trip.picked_up_at,
        "completed_at": trip.completed_at,
        "end_reason": trip.end_reason,
        "distance_m": trip.distance_mm / 1000,
        "reported_distance_m": (trip.distance_mm + trip.left_out_mm) / 1000,
        "epoch": trip.epoch,
        "seq": trip.head_seq,
        "pickup": trip.pickup,
        "dropoff": trip.dropoff,
        "route_expired_at": trip.route_expired_at,
    }


class TripsHandler(BaseHandler):
    """`GET /api/v1/ops/trips`: the newest first."""

    route = "/api/v1/ops/trips"

    async def get(self) -> None:
        principal = await admin_of(self)
        status = self.get_query_argument("status", None)
        if status is not None and status not in STATUSES:
            raise InvalidRequest(f"status is one of {', '.join(STATUSES)}")
        limit = self.whole_number("limit", USUAL_LIMIT)
        if not 1 <= limit <= MOST_TRIPS:
            raise InvalidRequest(f"limit is from 1 to {MOST_TRIPS}")
        search = self.get_query_argument("search", "")
        if len(search) > LONGEST_SEARCH:
            raise InvalidRequest(f"search has more than {LONGEST_SEARCH} characters")
        found = await self.services.read(search_trips, search, status, limit)
        for trip in found:
            self.services.access_log.note(principal, trip.booking_id, "ops")
        self.set_header("Cache-Control", "no-store")
        self.answer({"trips": [_fields(trip) for trip in found]})
