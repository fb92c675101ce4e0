"""What may become of the map below a trip: the line over it is drawn all the same."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Route

from tests.browser import Tab, chromium, launch, tab
from tests.running import Platform, Server, Trip, running_server
from tests.served import wait_seq
from tests.trip_page import hide, moving_trip, open_live, open_track, show, wait_map, wait_route

STYLES = "https://maps.example"
# Keeps hold of the workers that the page starts, so that a test can end them as iOS does: unseen.
WATCH_WORKERS = """
window.started = [];
window.Worker = class extends Worker {
  constructor(...given) { super(...given); started.push(this); }
};"""
END_WORKERS = "() => { const ended = started.splice(0); ended.forEach((one) => one.terminate()); }"
LOSE_CONTEXT = """() => {
  const canvas = document.querySelector(".maplibregl-canvas");
  canvas.getContext("webgl2").getExtension("WEBGL_lose_context").loseContext();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def styled_server(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Its map's style comes from somebody else, whom the tests play."""
    log: Path = tmp_path_factory.mktemp("styles") / "log"
    settings = {"MAP_STYLE_URL": f"{STYLES}/style.json", "MAP_CSP_ORIGINS": STYLES,
                "MAP_ATTRIBUTION": "© somebody else"}  # fmt: skip
    with running_server(database, log, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def styled_trip(styled_server: Server) -> Trip:
    environ = styled_server.environ
    platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
    trip = moving_trip(styled_server, platform)
    platform.close()
    return trip


@pytest.fixture
def trip(server: Server, platform: Platform) -> Trip:
    return moving_trip(server, platform)


def more(opened: Tab, server: Server, platform: Platform, engine: sa.Engine, trip: Trip) -> None:
    """Two further waypoints, one of them late, are drawn."""
    for second in (9, 7):
        platform.update(trip, second)
    wait_seq(server, trip, 7)
    wait_route(opened, engine, trip)


@pytest.mark.parametrize("noticed", ["online", "visible"])
def test_a_killed_worker_is_replaced_when_the_page_is_seen_again(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine, trip: Trip,
    noticed: str,
) -> None:  # fmt: skip
    with tab(browser) as opened:
        opened.context.add_init_script(WATCH_WORKERS)
        open_live(opened, server, trip)
        opened.page.evaluate(END_WORKERS)
        opened.page.evaluate("() => delete document.getElementById('map').dataset.drawn")
        if noticed == "online":
            opened.page.evaluate("() => dispatchEvent(new Event('online'))")
        else:
            hide(opened)
            opened.page.evaluate("() => { const n = performance.now; performance.now = () =>"
                                 " n.call(performance) + 31_000; }")  # fmt: skip
            show(opened)
        wait_map(opened)
        assert opened.page.evaluate("started.length") > 0
        more(opened, server, platform, engine, trip)


def test_a_lost_context_takes_no_point_with_it(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    with tab(browser) as opened:
        open_live(opened, server, trip)
        with opened.page.expect_console_message(lambda told: "context is lost" in told.text):
            opened.page.evaluate(LOSE_CONTEXT)
        more(opened, server, platform, engine, trip)


def test_without_webgl_the_route_lies_over_a_plain_map(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    plain = launch(browser.browser_type, "--disable-gpu", "--disable-3d-apis")
    try:
        with tab(plain) as opened:
            open_track(opened, server, trip)
            opened.page.locator("#map[data-drawn=plain]").wait_for(state="attached")
            opened.wait_text("#toast", "The map cannot be drawn here; the route is")
            more(opened, server, platform, engine, trip)
    finally:
        plain.close()


def answer(text: str, status: int = 200) -> Callable[[Route], None]:
    def give(route: Route) -> None:
        route.fulfill(
            status=status, body=text, headers={"Access-Control-Allow-Origin": "*"},
            content_type="application/json",
        )  # fmt: skip

    return give


def style(**parts: object) -> str:
    ground = {"id": "ground", "type": "background", "paint": {"background-color": "#fff"}}
    return json.dumps({"version": 8, "sources": {}, "layers": [ground], **parts})


USELESS: dict[str, Callable[[Route], None]] = {
    "nobody there": lambda route: route.abort("connectionrefused"),
    "an error": answer("{}", 503),
    "no JSON": answer("<h1>Please pay</h1>"),
    "null": answer("null"),
    "an empty object": answer("{}"),
    "no style": answer(style(layers=[{"id": 7}], version="x")),
    "a source that nobody has": lambda route: (
        answer(style(sources={"s": {"type": "vector", "url": f"{STYLES}/tiles.json"}}))(route)
        if route.request.url.endswith("style.json") else answer("no", 404)(route)
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", USELESS)
def test_a_style_that_is_of_no_use_gives_way_to_the_built_in(
    browser: Browser, styled_server: Server, styled_trip: Trip, engine: sa.Engine, what: str
) -> None:
    with tab(browser) as opened:
        opened.context.route(f"{STYLES}/**", USELESS[what])
        with opened.page.expect_response("**/world-*.json"):  # only the built-in one needs it
            open_track(opened, styled_server, styled_trip)
        wait_map(opened)
        wait_route(opened, engine, styled_trip)
        opened.wait("() => document.getElementById('attribution').hidden")


def test_a_style_that_is_good_is_shown_and_its_maker_named(
    browser: Browser, styled_server: Server, styled_trip: Trip
) -> None:
    with tab(browser) as opened:
        asked: list[str] = []
        opened.page.on("request", lambda request: asked.append(request.url))
        opened.context.route(f"{STYLES}/**", answer(style()))
        open_track(opened, styled_server, styled_trip)
        wait_map(opened)
        opened.wait_text("#attribution", "© somebody else")
        assert not [url for url in asked if "/world-" in url and url.endswith(".json")]


@pytest.mark.parametrize("script", ["trip-map", "maplibre"])
def test_a_script_of_the_map_that_cannot_be_had_is_tried_again(
    browser: Browser, server: Server, engine: sa.Engine, trip: Trip, script: str
) -> None:
    with tab(browser) as opened:
        pattern = f"**/assets/{script}-*.js"
        opened.context.route(pattern, lambda route: route.abort("connectionreset"), times=1)
        open_track(opened, server, trip)
        opened.wait_text("#position", "106.80040° E")
        if script == "maplibre":  # a plain map stands in for it, until there is reason to try again
            opened.page.locator("#map[data-drawn=plain]").wait_for(state="attached")
            wait_route(opened, engine, trip)
            opened.page.evaluate("() => dispatchEvent(new Event('online'))")
        opened.page.locator("#map[data-drawn=whole]").wait_for(state="attached")
        wait_route(opened, engine, trip)
