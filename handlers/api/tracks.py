"""A booking's track and its route. Large answers leave page by page, in bounded memory."""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

import msgspec
from tornado.iostream import StreamClosedError

from handlers.base import BaseHandler
from tracking.domain.accesses import Way
from tracking.domain.eta import Eta, NoEta
from tracking.domain.freshness import STALE_AFTER
from tracking.domain.legs import Leg
from tracking.domain.points import PLACE_AND_TIME
from tracking.domain.tracks import TrackView
from tracking.domain.waypoints import RouteWaypoint
from tracking.errors import InvalidRequest, NotFound, RouteExpired
from tracking.store.erasing.bookings import erase_booking
from tracking.store.read import points
from tracking.store.read.live import flagged_runs
from tracking.store.read.points import PointsPage
from tracking.store.read.routes import Place, RouteSlice, page, spans_half_the_globe
from tracking.store.read.told_arrivals import arrivals_of
from tracking.store.read.tracks import find_track, last_position, still_there
from tracking.wire.arrival_message import arrivals_part
from tracking.wire.eta_message import eta_part, eta_reason
from tracking.wire.geojson import RouteGeometry
from tracking.wire.route_properties import route_properties
from tracking.wire.track_fields import track_fields, waypoint_fields

# Reads the page behind a place, the first one behind None.
ReadPage: TypeAlias = Callable[[Place | None], Coroutine[Any, Any, PointsPage]]
_encode = msgspec.json.encode

# An entity tag without the mark of a weak one.
OPAQUE_TAG: Final = re.compile(r'"[^"]*"')


def is_named(etag: str, if_none_match: str) -> bool:
    """Does the header name this entity? Weakly compared (RFC 9110, section 13.1.2)."""
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in OPAQUE_TAG.findall(if_none_match)


class TrackingHandler(BaseHandler):
    """Shared by track and route: access, conditional requests, pages."""

    way: ClassVar[Way] = "rest"  # in the access log

    async def requested(self, text: str) -> tuple[TrackView, RouteSlice]:
        """The track that this caller may see, and which of its waypoints were asked for."""
        principal, booking_id = await self.authorize(text)
        track = await self.services.ask(find_track, booking_id)
        if track is None:  # asked for, but not accepted yet
            raise NotFound("no such booking")
        since_seq = self.whole_number("since_seq", 0)
        if since_seq > track.head_seq:
            raise InvalidRequest("since_seq is above the track's head")
        self.services.access_log.note(principal, booking_id, self.way)
        return track, RouteSlice(track.id, since_seq, track.head_seq, epoch=track.epoch)

    async def requested_route(self, text: str) -> tuple[TrackView, RouteSlice]:
        """As `requested`; raises RouteExpired where only a summary is left."""
        track, part = await self.requested(text)
        if track.route_expired_at is not None:
            raise RouteExpired("the route was erased for its age")
        return track, part

    def is_unchanged(self, track: TrackView, part: RouteSlice, variant: str = "") -> bool:
        """Set the headers that describe this version; true when the caller has it already."""
        etag = f'W/"{track.epoch}-{track.version}-{part.since_seq}{variant}"'
        self.set_header("ETag", etag)
        self.set_header("X-Track-Epoch", track.epoch)
        self.set_header("X-Track-Seq", str(track.head_seq))
        # A phone may keep it, but has to ask whether it is still true.
        self.set_header("Cache-Control", "private, no-cache")
        return is_named(etag, self.request.headers.get("If-None-Match", ""))

    async def arrivals(self, track: TrackView) -> dict[str, Any]:
        """What is said of them now; a change of it is another version of the track."""
        return {"arrivals": arrivals_part(await self.services.ask(arrivals_of, track.id))}

    async def flagged(self, track: TrackView) -> dict[str, Any]:
        """Which of the waypoints are left out now, as `welcome` says it."""
        runs = await self.services.ask(flagged_runs, track.id) if track.left_out else []
        return {"flagged": runs}

    async def pages(self, part: RouteSlice | None) -> AsyncIterator[list[RouteWaypoint]]:
        """The slice in route order; each page is asked for when the one before it has left."""
        after, count = None, 0
        while part is not None and (rows := await self.services.read(page, part, after)):
            yield rows
            after, count = rows[-1].order, count + len(rows)
        if part is not None:
            await self.check_whole(part, count)

    async def check_whole(self, part: RouteSlice, count: int) -> None:
        """Raises RouteChanged when the trip, or a runner of it, was erased meanwhile: half must not
        look whole.
        """
        if count < part.head_seq - part.since_seq:  # else none is missing
            await self.services.read(still_there, part.track_id, part.epoch)

    async def point_pages(self, read: ReadPage) -> AsyncGenerator[PointsPage, None]:
        """As columns, from `read`: one page at least, each read while the one before it leaves."""
        reading = asyncio.create_task(read(None))
        try:
            while True:
                page = await reading
                if page.next_place is not None:
                    reading = asyncio.create_task(read(page.next_place))
                yield page
                if page.next_place is None:
                    return
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def send_waypoints(self, fields: dict[str, Any], part: RouteSlice | None) -> None:
        """The apps' answer: these fields and the slice's waypoints."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if await self.was_head():
            return
        self.write(b'{"success":true,"data":' + _encode(fields)[:-1] + b',"waypoints":[')
        comma = b""
        try:
            async for rows in self.pages(part):
                await self.send(comma, _encode([waypoint_fields(row) for row in rows])[1:-1])
                comma = b","
        except StreamClosedError:
            return  # the caller went away
        self.write(b"]}}")

    async def was_head(self) -> bool:
        """Answer HEAD without computing the body, or its length; false for GET."""
        if self.request.method != "HEAD":
            return False
        await self.flush()
        return True

    async def send(self, *parts: bytes) -> None:
        """Write and wait until the caller took it; memory holds one page."""
        for part in parts:
            self.write(part)
        await self.flush()


class TrackHandler(TrackingHandler):
    """`GET /api/v1/tracking/{bookingId}`: the apps' own answer, times in whole seconds."""

    route = "/api/v1/tracking/{bookingId}"

    async def get(self, booking_id: str) -> None:
        track, part = await self.requested(booking_id)
        legs = await self.services.ask(arrivals_of, track.id)
        eta = await self._eta(track, legs)
        said, reason = eta_part(eta), eta_reason(eta)
        tag = f"-{zlib.crc32(repr((said, reason)).encode()):08x}"
        if self.is_unchanged(track, part, tag):
            self.set_status(304)
            return
        more = {"arrivals": arrivals_part(legs), "eta": said, "eta_reason": reason}
        more |= await self.flagged(track)
        await self.send_waypoints(track_fields(track) | more, part)

    async def _eta(self, track: TrackView, legs: list[Leg]) -> Eta | NoEta:
        """As a viewer would be told; it changes with time, so it has its part in the tag."""
        if track.status != "active":
            return NoEta("ended")
        last = await self.services.ask(last_position, track.booking_id)
        silence = None if last is None else datetime.now(UTC) - last.received_at
        is_live = silence is not None and silence < STALE_AFTER
        return self.services.etas.of(track, legs, last, is_live=is_live)

    async def delete(self, text: str) -> None:
        """Erase it for good. Every process closes its sockets within a second (erasure_check)."""
        principal, booking_id = await self.authorize(text)
        if principal.role == "runner":
            raise NotFound("no such booking")
        await self.services.change(erase_booking, booking_id, principal.role == "owner")
        self.set_status(204)


class RouteHandler(TrackingHandler):
    """`GET /api/v1/tracking/{bookingId}/route`: a GeoJSON Feature (RFC 7946)."""

    route = "/api/v1/tracking/{bookingId}/route"

    async def get(self, booking_id: str) -> None:
        track, part = await self.requested_route(booking_id)
        if self.is_unchanged(track, part):
            self.set_status(304)
            return
        self.set_header("Content-Type", "application/geo+json")
        if await self.was_head():
            return
        geometry = RouteGeometry(await self.services.read(spans_half_the_globe, part))
        try:
            async with aclosing(self.point_pages(partial(self._read, part))) as pages:
                first = await anext(pages)
                self.write(b'{"type":"Feature","geometry":' + geometry.begin(first.points))
                count = first.points.count
                async for page in pages:
                    count += page.points.count
                    await self.send(await asyncio.to_thread(geometry.add, page.points))
            await self.check_whole(part, count)
            self.write(geometry.end())
            await self._send_properties(track, geometry)
        except StreamClosedError:
            return  # the caller went away

    async def _read(self, part: RouteSlice, place: Place | None) -> PointsPage:
        return await self.services.read(points.page, part, PLACE_AND_TIME, place)

    async def _send_properties(self, track: TrackView, geometry: RouteGeometry) -> None:
        """And the bounding box, which is known last: the order of members is free."""
        said = route_properties(track) | await self.flagged(track)
        self.write(b',"properties":' + _encode(said)[:-1] + b',"coordTimes":')
        for piece in geometry.times():
            await self.send(piece)
        bbox = geometry.bbox()
        self.write(b"}" + (b"" if bbox is None else b',"bbox":' + _encode(bbox)) + b"}")
