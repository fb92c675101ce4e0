"""Share links: a booking's owner lets others look for a while, without a token of their own."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

from handlers.api.tracks import TrackingHandler
from tracking.errors import NotFound
from tracking.store.read.routes import RouteSlice
from tracking.store.read.tracks import find_track
from tracking.store.shares import create_share, find_share
from tracking.wire.messages import whole_seconds

# 256 bits: nobody guesses one.
TOKEN_BYTES: Final = 32
MAX_TOKEN_LENGTH: Final = 128


class ShareHandler(TrackingHandler):
    """`POST /api/v1/tracking/{bookingId}/share`: only by the owner, or an admin."""

    route = "/api/v1/tracking/{bookingId}/share"

    async def post(self, text: str) -> None:
        principal, booking_id = await self.authorize(text)
        if principal.role == "runner":
            raise NotFound("no such booking")
        settings = self.services.settings
        token = secrets.token_urlsafe(TOKEN_BYTES)
        expires_at = datetime.now(UTC) + timedelta(hours=settings.share_link_hours)
        share_id = await self.services.ask(
            create_share, booking_id, token, principal.user_id, expires_at
        )
        answer = {
            "id": share_id,
            "booking_id": booking_id,
            "share_token": token,
            "share_url": f"{settings.public_url}/api/v1/tracking/shared/{token}",
            "expires_at": whole_seconds(expires_at),
        }
        self.answer(answer, status=201)


class SharedHandler(TrackingHandler):
    """`GET /api/v1/tracking/shared/{token}`: public."""

    route = "/api/v1/tracking/shared/{token}"

    async def get(self, token: str) -> None:
        share = None
        if len(token) <= MAX_TOKEN_LENGTH:
            share = await self.services.ask(find_share, token)
        if share is None:
            raise NotFound("unknown or expired share link")
        booking_id, expires_at = share
        track = await self.services.ask(find_track, booking_id)
        status = "requested" if track is None else track.status
        head = {"booking_id": booking_id, "status": status, "expires_at": whole_seconds(expires_at)}
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        part = None if track is None else RouteSlice(track.id, 0, track.head_seq)
        await self.send_waypoints(head, part)
