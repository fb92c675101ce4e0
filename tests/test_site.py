"""handlers.pages.site: what was built is served as it is, and a missing build says what to do."""

import gzip
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from handlers.pages.site import CONFIG, PAGES, NotBuilt, Site, load_site
from tracking.settings import Settings


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What a build leaves, in small."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "embed").mkdir()
    (tmp_path / "embed" / "live-trip.js").write_text("element();")
    for page in PAGES:
        (tmp_path / f"{page}.html").write_text(f"<head>{CONFIG}</head>")
    (tmp_path / "assets" / "track-1a2b.js").write_text("a();")
    (tmp_path / "assets" / "track-1a2b.js.br").write_bytes(b"brotli")
    (tmp_path / "assets" / "track-1a2b.js.gz").write_bytes(gzip.compress(b"a();"))
    return tmp_path


def config_of(site: Site) -> dict[str, Any]:
    found = re.search(r'content="(.*?)"', site.pages["track"].body.decode())
    assert found
    config: dict[str, Any] = json.loads(html.unescape(found[1]))
    return config


def test_the_best_encoding_that_the_client_takes(built: Path) -> None:
    file = load_site(Settings(), built).assets["/assets/track-1a2b.js"]
    assert file.accepted("gzip, deflate, br") == ("br", b"brotli")
    assert file.accepted("gzip;q=0.5, BR;q=0")[0] == "gzip"
    assert file.accepted("*")[0] == "br"
    assert file.accepted("identity") == (None, b"a();")
    assert file.accepted("") == (None, b"a();")


def test_settings_reach_the_page_and_cannot_leave_their_attribute(built: Path) -> None:
    text = '"><script>alert(1)</script>'
    settings = Settings(map_attribution=text, login_url="https://login.example/in")
    site = load_site(settings, built)
    assert b"<script>" not in site.pages["track"].body
    assert config_of(site)["mapAttribution"] == text
    assert config_of(site)["loginUrl"] == "https://login.example/in"
    assert config_of(site)["mapStyleUrl"] is None
    assert config_of(site)["shareMaxHours"] == 168


def test_streets_are_served_under_a_name_of_their_content(built: Path, tmp_path: Path) -> None:
    streets = tmp_path / "streets.json"
    streets.write_text('{"type": "FeatureCollection", "features": []}')
    site = load_site(Settings(map_streets_file=str(streets)), built)
    file = site.assets[config_of(site)["mapStreetsUrl"]]
    assert file.body == streets.read_bytes()
    assert gzip.decompress(file.encoded["gzip"]) == file.body


def test_a_missing_build_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match=r"make web.*WEB=off"):
        load_site(Settings(), tmp_path)


def test_a_build_of_another_version_is_not_served(built: Path) -> None:
    (built / "track.html").write_text("<head></head>")
    with pytest.raises(NotBuilt, match="another version"):
        load_site(Settings(), built)
