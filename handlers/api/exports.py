"""A booking's route as a file to keep: streamed, in bounded memory, whole or visibly broken off."""

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial
from typing import ClassVar, Final

from tornado.iostream import StreamClosedError

from handlers.api.tracks import ReadPage, TrackingHandler
from handlers.query import number_of, time_of
from tracking.domain.exports import MOST_GAP_S, MOST_SIMPLIFY_M, ExportOptions, file_name
from tracking.domain.segments import gap_of
from tracking.domain.tracks import TrackView
from tracking.errors import InvalidRequest, TrackingError
from tracking.store.read import points
from tracking.store.read.exported import ExportStart, export_start
from tracking.store.read.points import PointsPage
from tracking.store.read.routes import Place, RouteSlice
from tracking.store.read.simplified import Simplification, kept
from tracking.wire.exports import FORMATS
from tracking.wire.exports.canonical import CanonicalCsv
from tracking.wire.exports.export import Export, exported
from tracking.wire.exports.format import Format

log = logging.getLogger("tracking.exports")

# Text leaves in pieces of so many bytes: the loop is asked for each, and a slow link holds one.
PIECE_BYTES: Final = 256 << 10
# A piece that nobody takes for so long ends the export: there are only so many at once.
TAKEN_WITHIN_S: Final = 60.0


class ExportHandler(TrackingHandler):
    """One for each format."""

    ending: ClassVar[str]
    way = "export"

    def document(self) -> type[Format]:
        """What is written; raises InvalidRequest."""
        return FORMATS[self.ending]

    async def get(self, booking_id: str) -> None:
        track, part = await self.requested_route(booking_id)
        options, document = self._options(part.since_seq), self.document()
        part = RouteSlice(track.id, options.since_seq, track.head_seq, options.since, options.until)
        start = await self.services.read(export_start, track, part)
        said = repr((options, document.__name__, start.judged_at)).encode()
        variant = f"-{self.ending}-{zlib.crc32(said):08x}"
        if self.is_unchanged(track, part, variant):
            self.set_status(304)
            return
        self.set_header("Content-Type", document.content_type)
        name = file_name(start.booking_number, track.booking_id, self.ending)
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        if await self.was_head():
            return
        with self.services.limits.export():
            await self._counted(track, part, options, start)

    def _options(self, since_seq: int) -> ExportOptions:
        """Of the query; raises InvalidRequest."""
        flagged = self.get_query_argument("flagged", None)
        if flagged not in (None, "include"):
            raise InvalidRequest("flagged can only be: include")
        return ExportOptions(
            since_seq=since_seq,
            since=time_of(self, "from"),
            until=time_of(self, "to"),
            simplify_m=number_of(self, "simplify_m", 0, MOST_SIMPLIFY_M) or 0.0,
            gap_s=number_of(self, "gap_s", 1, MOST_GAP_S),
            with_flagged=flagged is not None,
        )

    async def _counted(
        self, track: TrackView, part: RouteSlice, options: ExportOptions, start: ExportStart
    ) -> None:
        """Send it; whatever happens is counted once."""
        metrics, begun, outcome = self.services.metrics, time.monotonic(), "broken_off"
        metrics.exports.labels(self.ending, "started").inc()
        try:
            await self._send(track, part, options, start)
            outcome = "finished"
        except StreamClosedError:
            outcome = "left"
        except TimeoutError:
            outcome = "left"
            self.cut()
        except TrackingError as error:
            log.warning("export %s of %s broke off: %s", self.ending, track.booking_id, error)
            raise
        finally:
            metrics.exports.labels(self.ending, outcome).inc()
            metrics.export_seconds.labels(self.ending).observe(time.monotonic() - begun)

    async def _send(
        self, track: TrackView, part: RouteSlice, options: ExportOptions, start: ExportStart
    ) -> None:
        gap_s = gap_of(start.median_s) if options.gap_s is None else options.gap_s
        document = self.document()()
        export = Export(
            document, exported(track, start.booking_number), start.count,
            gap_s=gap_s, with_flagged=options.with_flagged,
        )  # fmt: skip
        simplification = None
        if options.simplify_m:
            simplification = Simplification(options.simplify_m, gap_s, options.with_flagged)
        read = partial(self._read, part, document.columns, simplification)
        async with aclosing(self._texts(export, read)) as texts:
            # The first piece waits for the next one: a small export that cannot be finished is an
            # error with a status.
            held = export.head()
            async for text in texts:
                if len(held) >= PIECE_BYTES:
                    self.write(held)
                    await asyncio.wait_for(self.flush(), TAKEN_WITHIN_S)
                    held = b""
                held += text
            self.write(held)

    async def _read(
        self,
        part: RouteSlice,
        columns: tuple[str, ...],
        simplification: Simplification | None,
        place: Place | None,
    ) -> PointsPage:
        page = await self.services.read(points.page, part, columns, place)
        if simplification is None:
            return page
        count = page.points.count
        seqs = await self.services.read(kept, part, place, count, simplification)
        return page._replace(kept=seqs)

    async def _texts(self, export: Export, read: ReadPage) -> AsyncGenerator[bytes, None]:
        """What follows the head, formatted on a thread."""
        async with aclosing(self.point_pages(read)) as pages:
            async for page in pages:
                pieces = export.page(page.points, page.kept)
                while text := await asyncio.to_thread(_some, pieces):
                    yield text
        pieces = export.tail()
        while text := await asyncio.to_thread(_some, pieces):
            yield text


def _some(pieces: Iterator[bytes]) -> bytes:
    """The next ones, PIECE_BYTES or a little more; empty at the end."""
    texts, size = [], 0
    for piece in pieces:
        texts.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            break
    return b"".join(texts)


class GeoJsonExport(ExportHandler):
    """`GET /api/v1/tracking/{bookingId}/export.geojson`: a FeatureCollection (RFC 7946)."""

    route = "/api/v1/tracking/{bookingId}/export.geojson"
    ending = "geojson"


class GpxExport(ExportHandler):
    """`GET /api/v1/tracking/{bookingId}/export.gpx`: GPX 1.1."""

    route = "/api/v1/tracking/{bookingId}/export.gpx"
    ending = "gpx"


class KmlExport(ExportHandler):
    """`GET /api/v1/tracking/{bookingId}/export.kml`: KML 2.2 with gx:MultiTrack."""

    route = "/api/v1/tracking/{bookingId}/export.kml"
    ending = "kml"


class CsvExport(ExportHandler):
    """`GET /api/v1/tracking/{bookingId}/export.csv`: CSV (RFC 4180), or the canonical one."""

    route = "/api/v1/tracking/{bookingId}/export.csv"
    ending = "csv"

    def document(self) -> type[Format]:
        canonical = self.get_query_argument("canonical", None)
        if canonical not in (None, "1"):
            raise InvalidRequest("canonical can only be: 1")
        return super().document() if canonical is None else CanonicalCsv

    def _options(self, since_seq: int) -> ExportOptions:
        """The canonical one is of the whole route, whatever else is asked for."""
        options = super()._options(since_seq)
        return ExportOptions() if self.document() is CanonicalCsv else options


EXPORTS: Final = (GeoJsonExport, GpxExport, KmlExport, CsvExport)
