"""What a booking's trip adds up to: settled once it has ended, so far until then."""

import asyncio
import zlib
from typing import Any

import msgspec

from handlers.api.tracks import TrackingHandler
from tracking.domain.tracks import TrackView
from tracking.domain.verdicts import Rule
from tracking.store.read.summaries import (
    SettledSummary,
    SummedUp,
    settled_summary,
    summary_so_far,
)
from tracking.wire.summary import summary_fields


class SummaryHandler(TrackingHandler):
    """`GET /api/v1/tracking/{bookingId}/summary`."""

    route = "/api/v1/tracking/{bookingId}/summary"

    async def get(self, booking_id: str) -> None:
        track, part = await self.requested(booking_id)
        settled = await self.services.read(settled_summary, track)
        rule = Rule(max_speed_kmh=self.services.settings.max_speed_kmh)
        said = repr((settled.at, settled.is_settled, rule)).encode()
        if self.is_unchanged(track, part, f"-summary-{zlib.crc32(said):08x}"):
            self.set_status(304)
            return
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if await self.was_head():
            return
        found = await self._summed_up(track, settled, rule)
        # A thousand stops and gaps take the time of a thousand messages.
        more = await self.arrivals(track)
        self.write(await asyncio.to_thread(_body, track, found, settled, more))

    async def _summed_up(self, track: TrackView, settled: SettledSummary, rule: Rule) -> SummedUp:
        if settled.summary is not None:
            return SummedUp(settled.summary, settled.implausible)
        # Of a settled trip the verdicts are stored, and by another rule, maybe.
        by = None if settled.is_settled else rule
        found: SummedUp = await self.services.read(summary_so_far, track, by)
        return found if by else SummedUp(found.summary, settled.implausible)


def _body(
    track: TrackView, found: SummedUp, settled: SettledSummary, more: dict[str, Any]
) -> bytes:
    fields: dict[str, Any] = summary_fields(
        track, found.summary, is_final=settled.is_settled, implausible=found.implausible,
        route_sha256=settled.route_sha256,
    )  # fmt: skip
    return msgspec.json.encode({"success": True, "data": fields | more})
