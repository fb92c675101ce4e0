"""The owner's page as a person sees it, in a real browser, on the real server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import chromium, tab
from tests.running import Platform, Server, Trip, stamp, wait_until
from tests.served import wait_seq
from tests.test_api_summary import under_way
from tests.test_store_ingest import delivered
from tests.trip_page import open_live, open_track, wait_map
from tracking.store.ingest.batch import store_batch

# The marker is there, and its nose points there; null: it has none.
IS_HEADING = """(wanted) => {
  const {marker} = document.querySelector(".overlay").drawn();
  const heading = marker && marker.headingDegrees;
  return marker !== null && (wanted === null ? heading === null : Math.abs(heading - wanted) < 1);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def trip(server: Server, platform: Platform) -> Trip:
    """Accepted a minute ago, with ten positions, which are stored."""
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip)
    for second in range(10):
        platform.update(trip, second)
    token = server.token(trip.owner_id, "owner")
    path = f"/api/v1/tracking/{trip.booking_id}"
    wait_until(lambda: head(server.get(path, token)) == 10, "ten positions")
    return trip


def head(answer: tuple[int, Any, object]) -> int:
    status, body, _ = answer
    return int(body["data"]["seq"]) if status == 200 else 0


def test_position_status_and_age_are_text_and_move(
    browser: Browser, server: Server, platform: Platform, trip: Trip
) -> None:
    with tab(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#position", "6.20000° S, 106.80090° E")
        assert opened.text("#headline") == "The runner is on the way to the pick-up"
        assert opened.text("#badge") == "Live"
        assert "ago" in opened.text("#age")
        platform.update(trip, 42)
        opened.wait_text("#position", "106.80420° E")


def test_the_token_leaves_the_address_and_a_reload_needs_no_new_one(
    browser: Browser, server: Server, trip: Trip
) -> None:
    with tab(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#badge", "Live")
        assert "token" not in opened.page.url
        opened.page.reload()
        opened.wait_text("#badge", "Live")
        assert opened.page.evaluate("localStorage.length") == 0


def test_the_trip_ends_before_ones_eyes(
    browser: Browser, server: Server, platform: Platform, trip: Trip
) -> None:
    with tab(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#badge", "Live")
        now = stamp(datetime.now(UTC))
        platform.send("booking.pet_picked_up", **trip.identity(), picked_up_at=now, occurred_at=now)
        opened.wait_text("#headline", "Your pet is on its way")
        platform.deliver(trip, datetime.now(UTC))
        opened.wait_text("#headline", "Arrived")
        opened.wait_text("#facts", "Duration")
        assert opened.page.is_hidden("#badge")


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("en-GB", ["On the move", "Standing", "Not recorded", "Stops: 1"]),
        ("id-ID", ["Bergerak", "Diam", "Tidak terekam", "Pemberhentian: 1"]),
    ],
)
def test_an_ended_trip_says_where_its_time_went(
    browser: Browser, server: Server, engine: sa.Engine, locale: str, words: list[str]
) -> None:
    trip = under_way(engine)
    store_batch(engine, [delivered(trip, 460)])
    with tab(browser, locale=locale) as opened:
        open_track(opened, server, trip)
        for word in words:
            opened.wait_text("#facts", word)
        opened.wait_text("#facts", "3 min" if locale == "en-GB" else "3 mnt")


def test_a_foreign_trip_and_an_unknown_one_look_the_same(
    browser: Browser, server: Server, trip: Trip
) -> None:
    said = []
    for booking in (trip, Trip()):
        with tab(browser) as opened:
            stranger = server.token(Trip().owner_id, "owner")
            opened.page.goto(
                f"http://127.0.0.1:{server.port}/track/{booking.booking_id}#token={stranger}"
            )
            opened.wait_text("#headline", "cannot be shown")
            said.append(opened.text("#panel"))
    assert said[0] == said[1]


def test_without_a_token_it_says_so(browser: Browser, server: Server, trip: Trip) -> None:
    with tab(browser) as opened:
        opened.page.goto(f"http://127.0.0.1:{server.port}/track/{trip.booking_id}")
        opened.wait_text("#login-text", "sign in")


def test_it_speaks_indonesian(browser: Browser, server: Server, trip: Trip) -> None:
    with tab(browser, locale="id-ID") as opened:
        open_track(opened, server, trip)
        opened.wait_text("#badge", "Langsung")
        assert opened.page.get_attribute("html", "lang") == "id"


def test_where_is_it_now_is_said_in_words(browser: Browser, server: Server, trip: Trip) -> None:
    with tab(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#position", "106.80090")
        opened.page.click("#where")
        opened.wait_text("#announce", "Now at 6.20000° S, 106.80090° E")
        opened.wait_text("#announce", "37 km/h east")


def test_the_link_that_is_down_says_so_and_comes_back(
    browser: Browser, server: Server, platform: Platform, trip: Trip
) -> None:
    """Chromium's offline leaves the socket open and silent; what came meanwhile is shown after."""
    with tab(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#badge", "Live")
        wait_map(opened)
        opened.context.set_offline(True)
        platform.update(trip, 50)
        opened.context.set_offline(False)
        opened.wait_text("#position", "106.80500° E")
        opened.wait_text("#badge", "Live")


def test_a_heading_of_zero_is_no_north(
    browser: Browser, server: Server, platform: Platform
) -> None:
    """Phones say 0 when they do not know; the marker's nose points along the way driven."""
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip)
    platform.update(trip, 1, heading_degrees=0.0)
    wait_seq(server, trip, 1)
    with tab(browser) as opened:
        open_live(opened, server, trip)
        opened.page.click("#where")
        opened.wait_text("#announce", "37 km/h")
        assert "north" not in opened.text("#announce")
        opened.wait(IS_HEADING, None)
        for second in (2, 3, 4):
            platform.update(trip, second, heading_degrees=0.0)
        opened.wait(IS_HEADING, 90)
