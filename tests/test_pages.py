"""handlers.pages: the pages and their files, from the real server."""

import gzip
import re
from http.client import HTTPConnection
from pathlib import Path
from uuid import uuid4

import pytest

from dev.web import DIST
from tests.running import Server, running_server, wait_until

BOOKING = "5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10"


def ask(server: Server, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def assets(page: bytes) -> list[str]:
    return re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.decode())


@pytest.mark.parametrize(
    "path", [f"/track/{BOOKING}", "/s/some-token", "/track/not-a-uuid", "/ops"]
)
def test_a_page_is_never_stored_and_tells_nobody(server: Server, path: str) -> None:
    status, headers, body = ask(server, path)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-robots-tag"] == "noindex"
    assert f"ws://127.0.0.1:{server.port}" in headers["content-security-policy"]
    assert BOOKING.encode() not in body, "the HTML is the same for everybody"


def test_only_the_owners_page_may_be_embedded(database: dict[str, str], tmp_path: Path) -> None:
    app = "https://app.example"
    with running_server(database, tmp_path / "log", EMBED_ORIGINS=app) as server:
        for path, allowed in (("/track/x", app), ("/s/x", "'none'"), ("/ops", "'none'")):
            policy = ask(server, path)[1]["content-security-policy"]
            assert f"frame-ancestors {allowed};" in policy


def test_every_file_of_a_page_is_there_for_ever(server: Server) -> None:
    found = assets(ask(server, "/track/x")[2])
    assert found
    for path in found:
        status, headers, body = ask(server, path)
        assert status == 200, path
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert "Accept-Encoding" in headers["vary"]
        assert body == (DIST / path.removeprefix("/")).read_bytes()
        assert ask(server, path, **{"If-None-Match": headers["etag"]})[0] == 304


def test_files_are_sent_as_the_build_compressed_them(server: Server) -> None:
    path = next(each for each in assets(ask(server, "/track/x")[2]) if each.endswith(".js"))
    plain = ask(server, path)[2]
    _, headers, brotli = ask(server, path, **{"Accept-Encoding": "gzip, br"})
    assert headers["content-encoding"] == "br"
    assert brotli == (DIST / f"{path.removeprefix('/')}.br").read_bytes()
    _, headers, zipped = ask(server, path, **{"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(zipped) == plain


def brotli(path: str) -> int:
    """Bytes on the wire; a small file is sent as it is."""
    file = DIST / path.removeprefix("/")
    compressed = file.with_name(f"{file.name}.br")
    return (compressed if compressed.exists() else file).stat().st_size


def loaded_by(path: str) -> set[str]:
    """What a script or page needs before it runs: its static imports, theirs, and the styles."""
    text = (DIST / path.removeprefix("/")).read_text()
    found = set(re.findall(r'(?:src|href)="(/assets/[^"]+)"', text))
    found |= {f"/assets/{n}" for n in re.findall(r'(?:from|import)"\./([^"]+\.js)"', text)}
    return found.union(*map(loaded_by, found)) if found else found


def test_the_pages_stay_within_their_budget() -> None:
    """Kilobytes of 1,000 bytes, brotli: up to the first text 25, with map and base map 350."""
    shell = {"/track.html", *loaded_by("/track.html")}
    assert sum(map(brotli, shell)) <= 25_000
    everything = {f"/assets/{file.name}" for file in (DIST / "assets").glob("*.[jcs]*")}
    everything = {each for each in everything if not each.endswith((".br", ".gz"))}
    everything -= loaded_by("/ops.html") - shell
    assert any("maplibre" in each for each in everything)
    assert sum(map(brotli, everything | shell)) <= 350_000


@pytest.mark.parametrize("path", ["/assets/nothing.js", "/assets/../server.py", "/assets/.built"])
def test_nothing_else_is_served(server: Server, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_a_link_is_in_no_log(server: Server) -> None:
    secret = uuid4().hex
    assert ask(server, f"/s/{secret}")[0] == 200
    wait_until(lambda: "/s/***" in server.log.read_text(), "the request's line")
    assert secret not in server.log.read_text()


def test_off_means_none(database: dict[str, str], tmp_path: Path) -> None:
    with running_server(database, tmp_path / "log", WEB="off") as server:
        assert ask(server, "/track/x")[0] == 404
        assert ask(server, "/health")[0] == 200
