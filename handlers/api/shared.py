"""What a share link shows, without a token of one's own."""

from typing import Any

from handlers.api.tracks import TrackingHandler
from handlers.link_handler import LinkHandler
from tracking.domain.shares import OpenShare
from tracking.domain.tracks import TrackView
from tracking.live.views import view_of
from tracking.store.read.routes import RouteSlice
from tracking.store.read.tracks import find_track
from tracking.wire.messages import whole_seconds


class SharedHandler(LinkHandler, TrackingHandler):
    """`GET /api/v1/tracking/shared/{token}`: public."""

    route = "/api/v1/tracking/shared/{token}"

    async def get(self, token: str) -> None:
        share = await self.opened(token)
        self.services.access_log.note_link(share.id, share.booking_id, "rest")
        track = await self.services.ask(find_track, share.booking_id)
        if self.request.method == "GET":
            await self.count(share)
        view = view_of(share.from_pickup)
        part = None
        if track is not None and not view.is_waiting(track):
            part = RouteSlice(track.id, 0, track.head_seq, view.since(track), epoch=track.epoch)
        fields: dict[str, Any] = {"flagged": []}
        if part is not None and track is not None:
            fields = await self.flagged(track)
        await self.send_waypoints(_fields(share, track) | fields, part)


def _fields(share: OpenShare, track: TrackView | None) -> dict[str, Any]:
    """`epoch` and `seq`: where `/ws/shared/{token}` goes on."""
    view = view_of(share.from_pickup)
    return {
        "booking_id": share.booking_id,
        "status": "requested" if track is None else track.status,
        "phase": None if track is None else track.phase,
        "expires_at": whole_seconds(share.expires_at),
        "waiting": view.is_waiting(track),
        "epoch": view.epoch(track),
        "seq": 0 if track is None or view.is_waiting(track) else track.head_seq,
    }
