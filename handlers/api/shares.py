"""Share links: a booking's owner lets others look for a while, without a token of their own."""

import secrets
from typing import Any, Final
from uuid import UUID

from handlers.api.share_requests import share_changes, share_terms
from handlers.base import uuid_of
from handlers.link_handler import UnlistedHandler
from tracking.domain.access import Principal
from tracking.domain.shares import Share
from tracking.errors import NotFound
from tracking.store.shares import change_share, create_share, list_shares, revoke_share
from tracking.wire.messages import whole_seconds

# 256 bits: nobody guesses one.
TOKEN_BYTES: Final = 32


class SharingHandler(UnlistedHandler):
    """For the booking's owner and admins; a runner does not share where he is."""

    async def authorize(self, text: str) -> tuple[Principal, UUID]:
        principal, booking_id = await super().authorize(text)
        if principal.role == "runner":
            raise NotFound("no such booking")
        return principal, booking_id

    def shown(self, share: Share) -> dict[str, Any]:
        """A link in a list: all but its token, which nobody knows any more."""
        opened_at = share.last_opened_at
        return {
            "id": share.id,
            **_terms(share),
            "created_at": whole_seconds(share.created_at),
            "expires_at": whole_seconds(share.expires_at),
            "status": share.status,
            "opens": share.opens,
            "last_opened_at": None if opened_at is None else whole_seconds(opened_at),
            "viewers": self.services.link_viewers.count(share.id),
        }


def _terms(share: Share) -> dict[str, Any]:
    return {
        "label": share.label,
        "from": "pickup" if share.from_pickup else "now",
        "after_end_s": share.after_end_s,
    }


class ShareHandler(SharingHandler):
    """`POST /api/v1/tracking/{bookingId}/share`: the only answer that has the token."""

    route = "/api/v1/tracking/{bookingId}/share"

    async def post(self, text: str) -> None:
        principal, booking_id = await self.authorize(text)
        terms = share_terms(self.request.body, self.services.settings)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        share = await self.services.ask(create_share, booking_id, token, principal.user_id, terms)
        answer = {
            "id": share.id,
            "booking_id": booking_id,
            "share_token": token,
            "share_url": f"{self.services.settings.public_url}/s/{token}",
            "expires_at": whole_seconds(share.expires_at),
            **_terms(share),
        }
        self.answer(answer, status=201)


class SharesHandler(SharingHandler):
    """`GET /api/v1/tracking/{bookingId}/shares`: newest first, closed ones for some days."""

    route = "/api/v1/tracking/{bookingId}/shares"

    async def get(self, text: str) -> None:
        _, booking_id = await self.authorize(text)
        shares = await self.services.ask(list_shares, booking_id)
        self.answer({"shares": [self.shown(share) for share in shares]})


class ShareLinkHandler(SharingHandler):
    """`PATCH` and `DELETE` `/api/v1/tracking/{bookingId}/shares/{shareId}`."""

    route = "/api/v1/tracking/{bookingId}/shares/{shareId}"

    async def patch(self, text: str, share_text: str) -> None:
        _, booking_id = await self.authorize(text)
        share_id = uuid_of(share_text, "share id")
        changes = share_changes(self.request.body, self.services.settings)
        share = await self.services.ask(change_share, booking_id, share_id, changes)
        if share is None:
            raise NotFound("no such share link")
        self.answer(self.shown(share))

    async def delete(self, text: str, share_text: str) -> None:
        """Every process closes its sockets within a second (handlers/link_check.py)."""
        _, booking_id = await self.authorize(text)
        share_id = uuid_of(share_text, "share id")
        if not await self.services.ask(revoke_share, booking_id, share_id):
            raise NotFound("no such share link")
        self.set_status(204)
