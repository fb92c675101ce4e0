"""What a share link opens: the same for its data and for its socket. IOLoop thread."""

from typing import Final

from handlers.base import BaseHandler
from handlers.client_address import network_of
from tracking.domain.shares import OpenShare
from tracking.errors import NotFound
from tracking.store.shares import count_opening, find_share

MAX_TOKEN_LENGTH: Final = 128


class UnlistedHandler(BaseHandler):
    """Its answers are kept nowhere, found by no search engine, and tell no other site of a link."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Robots-Tag", "noindex")


class LinkHandler(UnlistedHandler):
    """Opened by a token in its path, which is in no log (`base.log_request`)."""

    async def opened(self, token: str) -> OpenShare:
        """Unknown, expired, ended and revoked are the same: NotFound."""
        share = None
        if len(token) <= MAX_TOKEN_LENGTH:
            share = await self.services.ask(find_share, token)
        if share is None:
            raise NotFound("unknown or expired share link")
        return share

    async def count(self, share: OpenShare) -> None:
        """This viewer has opened it, unless it had before.

        Only what asks for data gets here: a messenger that previews a link fetches its page.
        """
        agent = self.request.headers.get("User-Agent", "")
        address = network_of(self.client_address)
        if self.services.openings.is_new(share.id, address, agent):
            try:
                await self.services.ask(count_opening, share.id)
            except BaseException:
                self.services.openings.forget(share.id, address, agent)
                raise
