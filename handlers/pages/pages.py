"""`/track/{bookingId}`, `/s/{token}`, `/ops` and the files that they load. IOLoop thread.

The HTML is the same for every booking and every link: what is in it nobody needs to protect, and a
bot that fetches it for a preview learns nothing and opens nothing.
"""

import logging
import re
from typing import Final

from tornado.routing import URLSpec
from tornado.web import HTTPError

from handlers.base import BaseHandler
from handlers.link_handler import UnlistedHandler
from handlers.pages.policy import content_security_policy, page_headers
from handlers.pages.site import EMBED, NotBuilt, Site, load_site
from tracking.settings import Settings

log = logging.getLogger("tracking.server")

# A hashed name stands for one content for ever.
IMMUTABLE: Final = "public, max-age=31536000, immutable"


class PageHandler(UnlistedHandler):
    """One page; only the owner's may be embedded."""

    def initialize(self, site: Site, page: str, route: str) -> None:
        self._site = site
        self._page = site.pages[page]
        self._is_embeddable = page == "track"
        self.route = route

    def get(self, *_: str) -> None:
        for name, value in page_headers(self._policy()).items():
            self.set_header(name, value)
        self.set_header("Content-Type", self._page.media_type)
        self.write(self._page.body)

    def _policy(self) -> str:
        settings = self._site.settings
        ancestors = settings.embed_origins if self._is_embeddable else ()
        return content_security_policy(self.request.host, settings.map_csp_origins, ancestors)


class AssetHandler(BaseHandler):
    """A file with a hashed name, compressed as the client takes it."""

    route = "/assets/{name}"
    caching = IMMUTABLE
    readers = "same-origin"

    def initialize(self, site: Site) -> None:
        self._site = site

    def compute_etag(self) -> str | None:
        """Of the file, not of its compressed form; Tornado would hash each answer."""
        file = self._site.assets.get(self.request.path)
        return None if file is None else file.etag

    def get(self, *_: str) -> None:
        file = self._site.assets.get(self.request.path)
        if file is None:
            raise HTTPError(404)
        encoding, body = file.accepted(self.request.headers.get("Accept-Encoding", ""))
        self.set_header("Content-Type", file.media_type)
        self.set_header("Cache-Control", self.caching)
        self.set_header("Cross-Origin-Resource-Policy", self.readers)
        if encoding is not None:
            self.set_header("Content-Encoding", encoding)
        self.write(body)


class EmbedHandler(AssetHandler):
    """`<live-trip>`, which embedding pages load by a name that stays.

    It is the same for everybody and holds nothing; who may embed the frame that it makes, the page
    in that frame says.
    """

    route = EMBED
    caching = "public, max-age=300"
    readers = "cross-origin"

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Access-Control-Allow-Origin", "*")  # modules are fetched with CORS


def page_routes(settings: Settings) -> list[URLSpec]:
    """The pages' part of the URL table: empty when they are not wanted, or not built."""
    if not settings.web:
        return []
    try:
        site = load_site(settings)
    except NotBuilt as error:
        log.warning("no web pages: %s", error)
        return []
    pages = {
        r"/track/([^/]+)": ("track", "/track/{bookingId}"),
        r"/s/([^/]+)": ("shared", "/s/{token}"),
        r"/ops": ("ops", "/ops"),
    }
    return [
        *[
            URLSpec(pattern, PageHandler, {"site": site, "page": page, "route": route})
            for pattern, (page, route) in pages.items()
        ],
        URLSpec(r"/assets/([^/]+)", AssetHandler, {"site": site}),
        URLSpec(re.escape(EMBED), EmbedHandler, {"site": site}),
    ]
