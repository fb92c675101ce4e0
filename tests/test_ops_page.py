"""The operator's page as a person sees it, in a real browser, on the real server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from tests.browser import DESKTOP, Tab, chromium, tab
from tests.running import Platform, Server, Trip, stamp, wait_until
from tests.served import stored_trip, track, wait_seq

# How often the dots were painted since the page began.
COUNT_PAINTS = """
globalThis.paints = 0;
const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  if (this.canvas.className === "dots") paints += 1;
  put.apply(this, given);
};
"""
# Of so many frames none is painted.
IS_STILL = """() => new Promise((resolve) => {
  const [before, frames] = [paints, 30];
  const look = (left) => left === 0 || paints !== before
    ? resolve(paints === before) : requestAnimationFrame(() => look(left - 1));
  look(frames);
})"""
HAS_DOTS = """() => {
  const canvas = document.querySelector(".dots");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
    .data.some((value) => value !== 0);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def number() -> str:
    """A booking number that no other test has."""
    return f"BK-{uuid4().hex[:8]}"


@pytest.fixture
def trip(server: Server, platform: Platform, number: str) -> Trip:
    """A quarter of an hour old, with a late point and a gap."""
    trip = Trip(datetime.now(UTC) - timedelta(minutes=15))
    platform.accept(trip, booking_number=number)
    for second in (1, 2, 3, 300, 301, 302):
        platform.update(trip, second)
    wait_seq(server, trip, 6)
    platform.update(trip, 5)
    wait_seq(server, trip, 7)
    return trip


def open_ops(tab: Tab, server: Server, role: str = "admin") -> None:
    token = server.token(uuid4(), role)
    tab.page.goto(f"http://127.0.0.1:{server.port}/ops#token={token}")


def open_without_map_library(tab: Tab, server: Server) -> None:
    """On the plain map, which is there at once on a busy machine, too."""
    tab.page.route("**/assets/maplibre*.js", lambda route: route.abort())
    open_ops(tab, server)
    tab.page.wait_for_selector("#map[data-drawn=plain]", state="attached")


def search(tab: Tab, number: str) -> None:
    tab.page.fill("input[type=search]", number)
    tab.wait_text(".row:not([hidden]) strong", number)


def open_trip(tab: Tab, server: Server, number: str) -> None:
    """Its details, as somebody comes to them who knows its number."""
    open_ops(tab, server)
    search(tab, number)
    tab.page.click(".row:not([hidden])")
    tab.wait_text("#detail h2", number)


def test_a_trip_is_found_by_its_number_and_moves(
    browser: Browser, server: Server, platform: Platform, trip: Trip, number: str
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_ops(opened, server)
        search(opened, number)
        opened.wait_text("#count", "1 ")
        platform.update(trip, 400, speed_kmh=71.0)
        opened.wait_text(".row:not([hidden]) .what", "71 km/h")


def test_one_that_starts_appears_and_one_that_ends_goes(
    browser: Browser, server: Server, platform: Platform, number: str
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_ops(opened, server)
        stored_trip(server, platform)
        opened.wait_text("#count", "trip")
        opened.page.fill("input[type=search]", number)
        trip = Trip(datetime.now(UTC))
        platform.accept(trip, booking_number=number)
        opened.wait_text(".row:not([hidden]) strong", number)
        platform.deliver(trip, datetime.now(UTC))
        opened.wait_text("#count", "0 of")


def test_the_selected_trip_tells_its_points_gaps_and_events(
    browser: Browser, server: Server, trip: Trip, number: str
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_trip(opened, server, number)
        facts = dict(opened.page.evaluate(
            "[...document.querySelectorAll('#detail dl div')]"
            ".map((row) => [...row.children].map((cell) => cell.textContent))"
        ))  # fmt: skip
        assert facts["Points"] == "7"
        assert facts["Out of order"] == "1"
        assert facts["Gaps"] == "1"
        assert "accepted" in opened.text(".events")


def test_a_trip_is_selected_by_its_dot(
    browser: Browser, server: Server, trip: Trip, number: str
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_without_map_library(opened, server)
        search(opened, number)
        opened.page.click("#whole")
        opened.wait("""() => {
          const map = document.querySelector("#map");
          const {left, top, width, height} = map.getBoundingClientRect();
          const place = {clientX: left + width / 2, clientY: top + height / 2};
          map.dispatchEvent(new MouseEvent("click", place));
          return !document.querySelector("#detail").hidden;
        }""")
        opened.wait_text("#detail h2", number)


def test_trips_are_seen_before_the_map_library_has_come(
    browser: Browser, server: Server, trip: Trip
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        opened.page.route("**/assets/maplibre*.js", lambda _: None)
        open_ops(opened, server)
        opened.wait(HAS_DOTS)
        assert opened.page.locator(".base-map canvas").count() == 0


def test_dots_are_painted_while_they_glide_and_never_otherwise(
    browser: Browser, server: Server, platform: Platform, trip: Trip, number: str
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        opened.context.add_init_script(COUNT_PAINTS)
        open_without_map_library(opened, server)
        search(opened, number)
        opened.page.click("#whole")
        opened.wait(IS_STILL)
        before = opened.page.evaluate("paints")
        platform.update(trip, 400)
        opened.wait("(before) => paints > before + 3", before)
        opened.wait(IS_STILL)


def test_it_plays_back_from_the_beginning_to_the_end(
    browser: Browser, server: Server, trip: Trip, number: str
) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_trip(opened, server, number)
        opened.page.fill("#detail input[type=range]", "0")
        begin = opened.text("#detail output")
        opened.page.select_option("#detail .player select", "120")
        opened.page.click("#detail .player button")
        opened.wait("() => document.querySelector('#detail input[type=range]').value === '1000'")
        opened.wait_text("#detail .player button", "Play")
        assert opened.text("#detail output") != begin


def test_playing_back_follows_until_somebody_moves_the_map(
    browser: Browser, server: Server, trip: Trip, number: str
) -> None:
    followed = ".player [aria-pressed]"
    with tab(browser, viewport=DESKTOP) as opened:
        open_trip(opened, server, number)
        opened.page.locator("#map[data-drawn]").wait_for(state="attached")
        assert opened.page.get_attribute(followed, "aria-pressed") == "false"
        opened.page.select_option("#detail .player select", "1")
        opened.page.get_by_role("button", name="Play").click()
        assert opened.text(followed) == "Following"
        opened.page.mouse.move(600, 400)
        opened.page.mouse.down()
        opened.page.mouse.move(700, 450, steps=3)
        opened.page.mouse.up()
        opened.wait_text(followed, "Follow")
        opened.page.locator(".player [aria-pressed=false]").wait_for()
        opened.page.click(followed)
        opened.page.locator(".player [aria-pressed=true]").wait_for()


def test_a_finished_trip_is_found_and_shown(
    browser: Browser, server: Server, platform: Platform, trip: Trip, number: str
) -> None:
    platform.deliver(trip, trip.at(310))
    wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    with tab(browser, viewport=DESKTOP) as opened:
        open_ops(opened, server)
        opened.page.fill("input[type=search]", number)
        opened.wait_text("#finished", number)
        opened.page.click(".found")
        opened.wait_text("#detail", "completed")
        opened.wait_text(".events", "delivered")


def test_what_the_service_does(browser: Browser, server: Server, trip: Trip) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_ops(opened, server)
        opened.page.get_by_role("button", name="Service").click()
        opened.wait_text(".tiles", "Kafka lag")
        opened.wait_text(".checks", "database")


def test_names_are_text_whatever_they_say(
    browser: Browser, server: Server, platform: Platform
) -> None:
    attack = "<img src=x onerror=alert(1)>"
    trip = Trip(datetime.now(UTC))
    now = stamp(datetime.now(UTC))
    platform.send("booking.accepted", **{**trip.identity(), "booking_number": attack},
                  occurred_at=now)  # fmt: skip
    with tab(browser, viewport=DESKTOP) as opened:
        open_trip(opened, server, attack)
        assert opened.page.locator("img").count() == 0


def test_an_owner_is_told_that_it_is_not_for_him(browser: Browser, server: Server) -> None:
    with tab(browser, viewport=DESKTOP) as opened:
        open_ops(opened, server, role="owner")
        opened.wait_text("#login-text", "administrators")
