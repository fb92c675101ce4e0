"""A booking's track and its route. Large answers leave page by page, in bounded memory."""

from array import array
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from tornado.iostream import StreamClosedError

from handlers.base import BaseHandler
from tracking.domain.times import rfc3339
from tracking.domain.tracks import TrackView
from tracking.domain.waypoints import RouteWaypoint
from tracking.errors import InvalidRequest, NotFound
from tracking.store.read.routes import RouteSlice, extent, page
from tracking.store.read.tracks import find_track
from tracking.wire.messages import whole_seconds

_encode = msgspec.json.encode

# A waypoint's time in eight bytes: what stays in memory of a route while it leaves.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
# coordTimes leave in pieces of so many.
TIMES_PIECE: Final = 2_000


class TrackingHandler(BaseHandler):
    """Shared by track and route: access, conditional requests, pages."""

    async def requested(self, text: str) -> tuple[TrackView, RouteSlice]:
        """The track that this caller may see, and which of its waypoints were asked for."""
        _, booking_id = await self.authorize(text)
        track = await self.services.ask(find_track, booking_id)
        if track is None:  # asked for, but not accepted yet
            raise NotFound("no such booking")
        since_seq = self.whole_number("since_seq", 0)
        if since_seq > track.head_seq:
            raise InvalidRequest("since_seq is above the track's head")
        return track, RouteSlice(track.id, since_seq, track.head_seq)

    def is_unchanged(self, track: TrackView, part: RouteSlice) -> bool:
        """Set the headers that describe this version; true when the caller has it already."""
        etag = f'W/"{track.epoch}-{track.version}-{part.since_seq}"'
        self.set_header("ETag", etag)
        self.set_header("X-Track-Epoch", track.epoch)
        self.set_header("X-Track-Seq", str(track.head_seq))
        # A phone may keep it, but has to ask whether it is still true.
        self.set_header("Cache-Control", "private, no-cache")
        known = self.request.headers.get("If-None-Match", "")
        return etag in [tag.strip() for tag in known.split(",")]

    async def pages(self, part: RouteSlice | None) -> AsyncIterator[list[RouteWaypoint]]:
        """The slice in route order; each page is asked for when the one before it has left."""
        after = None
        while part is not None and (rows := await self.services.ask(page, part, after)):
            yield rows
            after = rows[-1].order

    async def send_waypoints(self, fields: dict[str, Any], part: RouteSlice | None) -> None:
        """The apps' answer: these fields and the slice's waypoints."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(b'{"success":true,"data":' + _encode(fields)[:-1] + b',"waypoints":[')
        comma = b""
        try:
            async for rows in self.pages(part):
                await self.send(comma, _encode([_waypoint(row) for row in rows])[1:-1])
                comma = b","
        except StreamClosedError:
            return  # the caller went away
        self.write(b"]}}")

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
        if self.is_unchanged(track, part):
            self.set_status(304)
            return
        await self.send_waypoints(_track_fields(track), part)


def _track_fields(track: TrackView) -> dict[str, Any]:
    return {
        "id": track.id,
        "booking_id": track.booking_id,
        "runner_id": track.runner_id,
        "status": track.status,
        "phase": track.phase,
        "total_distance_km": track.distance_mm / 1_000_000,
        "started_at": whole_seconds(track.started_at),
        "completed_at": None if track.completed_at is None else whole_seconds(track.completed_at),
        "epoch": track.epoch,
        "seq": track.head_seq,
    }


def _waypoint(row: RouteWaypoint) -> dict[str, Any]:
    return {
        "id": str(row.seq),
        "latitude": round(row.latitude, 6),
        "longitude": round(row.longitude, 6),
        "speed_kmh": row.speed_kmh or 0.0,
        "heading_degrees": row.heading_degrees or 0.0,
        "recorded_at": whole_seconds(row.recorded_at),
        "seq": row.seq,
    }


class RouteHandler(TrackingHandler):
    """`GET /api/v1/tracking/{bookingId}/route`: a GeoJSON Feature (RFC 7946)."""

    route = "/api/v1/tracking/{bookingId}/route"

    async def get(self, booking_id: str) -> None:
        track, part = await self.requested(booking_id)
        if self.is_unchanged(track, part):
            self.set_status(304)
            return
        size = await self.services.ask(extent, part)
        self.set_header("Content-Type", "application/geo+json")
        bbox = b"" if size.bbox is None else b'"bbox":' + _encode(_rounded(size.bbox)) + b","
        self.write(b'{"type":"Feature",' + bbox + b'"geometry":')
        try:
            times = await self._send_geometry(part, size.count)
            await self._send_properties(track, times)
        except StreamClosedError:
            return

    async def _send_geometry(self, part: RouteSlice, count: int) -> "array[int]":
        """A LineString for two points or more, a Point for one, null for none."""
        times: array[int] = array("q")
        opening, closing = _brackets(count)
        self.write(opening)
        comma = b""
        async for rows in self.pages(part):
            times.extend((row.recorded_at - EPOCH) // MICROSECOND for row in rows)
            points = _encode([_rounded((row.longitude, row.latitude)) for row in rows])[1:-1]
            await self.send(comma, points)
            comma = b","
        self.write(closing)
        return times

    async def _send_properties(self, track: TrackView, times: "array[int]") -> None:
        fields = _encode(_properties(track))
        self.write(b',"properties":' + fields[:-1] + b',"coordTimes":[')
        for start in range(0, len(times), TIMES_PIECE):
            piece = _encode(_texts(times[start : start + TIMES_PIECE]))[1:-1]
            await self.send(b"," if start else b"", piece)
        self.write(b"]}}")


def _brackets(count: int) -> tuple[bytes, bytes]:
    if count == 0:
        return b"null", b""
    if count == 1:
        return b'{"type":"Point","coordinates":', b"}"
    return b'{"type":"LineString","coordinates":[', b"]}"


def _rounded(degrees: Sequence[float]) -> list[float]:
    """Six decimals are a tenth of a metre; more only pretends to know."""
    return [round(number, 6) for number in degrees]


def _texts(times: Iterable[int]) -> list[str]:
    return [rfc3339(EPOCH + time * MICROSECOND) for time in times]


def _properties(track: TrackView) -> dict[str, Any]:
    end = track.completed_at or track.last_recorded_at or track.started_at
    return {
        "booking_id": track.booking_id,
        "track_id": track.id,
        "runner_id": track.runner_id,
        "status": track.status,
        "phase": track.phase,
        "distance_m": track.distance_mm / 1000,
        "duration_s": max((end - track.started_at).total_seconds(), 0.0),
        "started_at": rfc3339(track.started_at),
        "completed_at": None if track.completed_at is None else rfc3339(track.completed_at),
        "epoch": track.epoch,
        "seq": track.head_seq,
    }
