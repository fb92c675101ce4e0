"""web/dist in memory: the pages with their configuration, and the files that they load.

Read once at start; a few MB. Each file has been compressed by the build, with brotli and gzip.
"""

import gzip
import hashlib
import html
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tracking.settings import Settings

DIST: Final = Path(__file__).resolve().parents[2] / "web" / "dist"
PAGES: Final = ("track", "shared", "ops")
# The one script that other sites load, by a name that stays.
EMBED: Final = "/embed/live-trip.js"
# The build leaves it empty; see web/src/page/config.ts.
CONFIG: Final = '<meta name="service-tracking" content="" />'
STREETS: Final = "/assets/streets-{}.json"
ENCODINGS: Final = {"br": ".br", "gzip": ".gz"}  # the better one first
MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
}


class NotBuilt(Exception):
    """web/dist is not there, or not whole."""


@dataclass(frozen=True)
class File:
    """One file, whole and compressed."""

    media_type: str
    body: bytes
    etag: str
    encoded: dict[str, bytes] = field(default_factory=dict)

    def accepted(self, accept_encoding: str) -> tuple[str | None, bytes]:
        """The smallest form that the client takes (RFC 9110, section 12.5.3)."""
        offered = {}
        for part in accept_encoding.split(","):
            name, _, parameters = part.strip().partition(";")
            offered[name.strip().lower()] = parameters.replace(" ", "") not in ("q=0", "q=0.0")
        for name, body in self.encoded.items():
            if offered.get(name, offered.get("*", False)):
                return name, body
        return None, self.body


@dataclass(frozen=True)
class Site:
    """All that the pages need from us besides data."""

    pages: dict[str, File]
    assets: dict[str, File]  # by path below the server's address
    settings: Settings


def load_site(settings: Settings, folder: Path = DIST) -> Site:
    """Raises NotBuilt, saying what to do."""
    try:
        html_of = {name: (folder / f"{name}.html").read_text() for name in PAGES}
        embed = _file(folder / EMBED.removeprefix("/"))
    except OSError as error:
        raise NotBuilt(
            f"{error.filename} is not there: run `make web`, or set WEB=off to serve no pages"
        ) from None
    assets = {
        "/" + str(path.relative_to(folder)): _file(path)
        for path in sorted((folder / "assets").iterdir())
        if path.suffix in MEDIA_TYPES
    }
    assets[EMBED] = embed
    config = _config(settings)
    if settings.map_streets_file:
        body = Path(settings.map_streets_file).read_bytes()
        file = File(MEDIA_TYPES[".json"], body, _etag(body), {"gzip": gzip.compress(body)})
        address = STREETS.format(file.etag.strip('"')[:12])
        assets[address] = file
        config["mapStreetsUrl"] = address
    pages = {name: _page(text, config) for name, text in html_of.items()}
    return Site(pages, assets, settings)


def _config(settings: Settings) -> dict[str, object]:
    """As web/src/page/config.ts reads it."""
    return {
        "loginUrl": settings.login_url or None,
        "mapStyleUrl": settings.map_style_url or None,
        "mapStyleUrlDark": settings.map_style_url_dark or None,
        "mapStreetsUrl": None,
        "mapAttribution": settings.map_attribution,
        "shareMaxHours": settings.share_link_max_s // 3600,
        "receipts": bool(settings.receipt_key),
        "embedOrigins": settings.embed_origins,
    }


def _page(text: str, config: dict[str, object]) -> File:
    """With its configuration as an attribute: a script in the HTML would need 'unsafe-inline'."""
    if CONFIG not in text:
        raise NotBuilt("web/dist is of another version: run `make web`")
    content = html.escape(json.dumps(config), quote=True)
    body = text.replace(CONFIG, CONFIG.replace('""', f'"{content}"')).encode()
    return File(MEDIA_TYPES[".html"], body, _etag(body))


def _file(path: Path) -> File:
    body = path.read_bytes()
    encoded = {
        name: compressed.read_bytes()
        for name, suffix in ENCODINGS.items()
        if (compressed := path.with_name(path.name + suffix)).exists()
    }
    return File(MEDIA_TYPES[path.suffix], body, _etag(body), encoded)


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
