"""<live-trip>: another site's page embeds the owner's, if it may, and gives it its tokens."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tests.browser import chromium, tab
from tests.running import Platform, Server, Trip, running_server
from tests.served import wait_seq

PAGE = """<!doctype html><title>The company's web app</title>
<script type="module" src="{server}/embed/live-trip.js"></script>
<live-trip style="height:600px" booking="{booking}"></live-trip>
<script>
  window.asked = [];
  const tokens = {tokens};
  const trip = document.querySelector("live-trip");
  trip.token = {first};
  trip.refresh = async (why) => {{
    asked.push(why);
    if (tokens.length === 0) throw new Error("nobody is signed in");
    return tokens[Math.min(asked.length, tokens.length) - 1];
  }};
</script>"""
# What the frame has kept where the embedding page's next user, or another frame, would find it.
KEPT = "[sessionStorage.length, localStorage.length, document.cookie.length, location.hash]"


class App(RequestHandler):
    """The embedding page, as the test wrote it."""

    def get(self) -> None:
        self.write(self.application.settings["page"])


@contextmanager
def embedding_app() -> Iterator[tuple[str, dict[str, Any]]]:
    """A web app of somebody else's on a port of its own: its origin, and its settings."""
    socket, port = bind_unused_port()
    application = Application([("/", App)], page="")
    started = threading.Event()
    loop = asyncio.new_event_loop()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        server = HTTPServer(application)
        server.add_socket(socket)
        loop.call_soon(started.set)
        loop.run_forever()
        server.stop()
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait(60)
    try:
        yield f"http://127.0.0.1:{port}", application.settings
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def apps() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """One that may embed, and one that may not."""
    with embedding_app() as allowed, embedding_app() as other:
        yield [allowed, other]


@pytest.fixture(scope="module")
def embedded_server(
    database: dict[str, str],
    apps: list[tuple[str, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    log: Path = tmp_path_factory.mktemp("embedding") / "log"
    with running_server(database, log, EMBED_ORIGINS=apps[0][0]) as server:
        yield server


@pytest.fixture
def trip(embedded_server: Server) -> Trip:
    environ = embedded_server.environ
    platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip)
    platform.update(trip, 1)
    platform.close()
    wait_seq(embedded_server, trip, 1)
    return trip


def page_for(server: Server, trip: Trip, *tokens: str, first: str | None = None) -> str:
    """`first`: given by property; `tokens`: by the callback, one after the other."""
    return PAGE.format(
        server=f"http://127.0.0.1:{server.port}", booking=trip.booking_id, tokens=list(tokens),
        first=json.dumps(first),
    )  # fmt: skip


def test_an_allowed_app_embeds_it_and_renews_the_token(
    browser: Browser, embedded_server: Server, apps: list[Any], trip: Trip
) -> None:
    origin, settings = apps[0]
    soon = embedded_server.token(trip.owner_id, "owner", lifetime=timedelta(seconds=34))
    later = embedded_server.token(trip.owner_id, "owner")
    settings["page"] = page_for(embedded_server, trip, soon, later)
    with tab(browser) as opened:
        opened.page.goto(origin)
        frame = opened.page.frame_locator("iframe")
        frame.get_by_text("106.80010° E").wait_for()
        opened.wait("() => asked.includes('expiring')")
        assert opened.page.evaluate("asked") == ["join", "expiring"]
        assert "token" not in (opened.page.get_attribute("iframe", "src") or "")


def test_another_app_may_not(
    browser: Browser, embedded_server: Server, apps: list[Any], trip: Trip
) -> None:
    origin, settings = apps[1]
    settings["page"] = page_for(
        embedded_server, trip, embedded_server.token(trip.owner_id, "owner")
    )
    with tab(browser) as opened:
        with opened.page.expect_console_message(lambda told: "frame-ancestors" in told.text):
            opened.page.goto(origin)
        assert opened.page.evaluate("asked") == []
        opened.errors.clear()  # the refusal itself is one


@pytest.mark.parametrize("way", ["property", "callback"])
def test_no_token_is_left_in_the_tab(
    browser: Browser, embedded_server: Server, apps: list[Any], trip: Trip, way: str
) -> None:
    origin, settings = apps[0]
    token = embedded_server.token(trip.owner_id, "owner")
    given = () if way == "property" else (token,)
    first = token if way == "property" else None
    settings["page"] = page_for(embedded_server, trip, *given, first=first)
    with tab(browser) as opened:
        opened.page.goto(origin)
        opened.page.frame_locator("iframe").get_by_text("106.80010° E").wait_for()
        assert opened.page.evaluate("asked") == ([] if way == "property" else ["join"])
        assert opened.page.frames[1].evaluate(KEPT) == [0, 0, 0, ""]


def test_a_token_that_has_ended_is_asked_for_anew(
    browser: Browser, embedded_server: Server, apps: list[Any], trip: Trip
) -> None:
    origin, settings = apps[0]
    old = embedded_server.token(trip.owner_id, "owner", lifetime=timedelta(minutes=-1))
    good = embedded_server.token(trip.owner_id, "owner")
    settings["page"] = page_for(embedded_server, trip, good, first=old)
    with tab(browser) as opened:
        opened.page.goto(origin)
        opened.page.frame_locator("iframe").get_by_text("106.80010° E").wait_for()
        assert set(opened.page.evaluate("asked")) == {"expired"}


@pytest.mark.parametrize("given", [(), ("no token",)], ids=["nothing", "no token"])
def test_a_page_that_has_no_token_is_told_and_may_have_one_later(
    browser: Browser, embedded_server: Server, apps: list[Any], trip: Trip, given: tuple[str, ...]
) -> None:
    origin, settings = apps[0]
    settings["page"] = page_for(embedded_server, trip, *given)
    with tab(browser) as opened:
        opened.page.goto(origin)
        frame = opened.page.frame_locator("iframe")
        frame.locator("#login-text").get_by_text("sign in").wait_for()
        assert "session has ended" in frame.locator("#headline").inner_text()
        good = embedded_server.token(trip.owner_id, "owner")
        opened.page.evaluate("(token) => { trip.refresh = () => token; }", good)
        frame.get_by_text("106.80010° E").wait_for()
        assert frame.locator("#login").is_hidden()
