"""Tabs with trips: beside each other, in the background, frozen, back and forward."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import Tab, chromium, tab
from tests.running import Platform, Server, Trip
from tests.served import owner, wait_seq
from tests.trip_page import address, hide, moving_trip, open_live, show, wait_route


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def trip(server: Server, platform: Platform) -> Trip:
    return moving_trip(server, platform)


def test_two_tabs_of_one_person_show_two_trips(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    """Each tab has the token of its own trip's owner."""
    other = moving_trip(server, platform, 2)
    with tab(browser) as one:
        two = Tab(browser, within=one.context)
        open_live(one, server, trip)
        open_live(two, server, other)
        platform.update(trip, 20)
        platform.update(other, 30)
        one.wait_text("#position", "106.80200° E")
        two.wait_text("#position", "106.80300° E")
        wait_route(one, engine, trip)
        wait_route(two, engine, other)
        one.page.reload()
        one.wait_text("#position", "106.80200° E")
        assert not two.errors, two.errors


@pytest.mark.parametrize("how", ["hidden", "frozen"])
def test_a_tab_that_was_away_is_complete_when_it_is_seen_again(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine, how: str
) -> None:
    trip = moving_trip(server, platform, minutes=5)
    with tab(browser) as opened:
        open_live(opened, server, trip)
        devtools = opened.context.new_cdp_session(opened.page)
        hide(opened)
        if how == "frozen":
            devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
        for second in (30, 10, 20, *range(40, 100)):
            platform.update(trip, second)
        wait_seq(server, trip, 68)
        if how == "frozen":
            devtools.send("Page.setWebLifecycleState", {"state": "active"})
        show(opened)
        opened.wait_text("#position", "106.80990° E")
        wait_route(opened, engine, trip)
        opened.wait_text("#badge", "Live")


def test_back_and_forward_show_what_has_happened_meanwhile(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    other = moving_trip(server, platform, 2)
    admin = server.token(other.owner_id, "admin")
    with tab(browser) as opened:
        opened.page.goto(f"{address(server, trip)}#token={admin}")
        opened.wait_text("#position", "106.80040° E")
        opened.page.goto(address(server, other))
        opened.wait_text("#position", "106.80010° E")
        for second in (12, 11):
            platform.update(trip, second)
        wait_seq(server, trip, 7)
        opened.page.go_back()
        opened.wait_text("#position", "106.80120° E")
        wait_route(opened, engine, trip)
        opened.page.go_forward()
        opened.wait_text("#position", "106.80010° E")
        wait_route(opened, engine, other)


def test_an_address_that_names_no_trip_says_no_more_than_a_foreign_one(
    browser: Browser, server: Server, trip: Trip
) -> None:
    with tab(browser) as opened:
        token = owner(server, trip)
        opened.page.goto(f"http://127.0.0.1:{server.port}/track/not-a-uuid#token={token}")
        opened.wait_text("#headline", "cannot be shown")
