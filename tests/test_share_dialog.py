"""The owner's dialog for share links, in a real browser: extend, who looks, the keyboard alone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser import AXE, Tab, chromium, tab
from tests.running import Platform, Server, Trip
from tests.served import owner, wait_seq
from tests.sharing import share, shares

FOCUSED = "() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def trip(server: Server, platform: Platform) -> Trip:
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip)
    platform.update(trip, 1)
    wait_seq(server, trip, 1)
    return trip


def open_dialog(tab: Tab, server: Server, trip: Trip) -> None:
    token = owner(server, trip)
    tab.page.goto(f"http://127.0.0.1:{server.port}/track/{trip.booking_id}#token={token}")
    tab.page.click("#share")
    tab.wait_text(".shares", "opened")


def ends_in_s(link: dict[str, Any]) -> float:
    end: datetime = datetime.fromisoformat(link["expires_at"])
    return (end - datetime.now(UTC)).total_seconds()


def test_a_link_is_extended_and_stays_longer_after_the_end(
    browser: Browser, server: Server, trip: Trip
) -> None:
    share(server, trip, label="Grandma", expires_in_s=600, after_end_s=0)
    with tab(browser) as opened:
        open_dialog(opened, server, trip)
        opened.page.get_by_role("button", name="Change the end: Grandma").click()
        opened.page.get_by_label("Ends after").last.select_option("72")
        opened.page.get_by_label("After the trip's end").select_option("24")
        opened.page.get_by_role("button", name="Save").click()
        opened.wait_text(".told", "Grandma: until")
        assert opened.page.is_hidden(".shares form")
        assert opened.page.evaluate(FOCUSED) == "Change the end: Grandma"
    (link,) = shares(server, trip)
    assert abs(ends_in_s(link) - 72 * 3600) < 60
    assert link["after_end_s"] == 24 * 3600


def test_what_is_not_chosen_stays_as_it_is(browser: Browser, server: Server, trip: Trip) -> None:
    share(server, trip, label="Grandma", expires_in_s=600, after_end_s=7200)
    (before,) = shares(server, trip)
    with tab(browser) as opened:
        open_dialog(opened, server, trip)
        opened.page.get_by_role("button", name="Change the end").click()
        opened.page.get_by_role("button", name="Save").click()
        opened.wait_text(".told", "Grandma: until")
    assert shares(server, trip) == [before]


def test_a_link_whose_time_is_over_opens_again(
    browser: Browser, server: Server, trip: Trip
) -> None:
    share(server, trip, label="Grandma", expires_in_s=1)
    with tab(browser) as opened:
        open_dialog(opened, server, trip)
        opened.wait_text(".shares", "over · not opened yet")
        opened.page.get_by_role("button", name="Change the end").click()
        opened.page.get_by_role("button", name="Save").click()
        opened.wait_text(".shares", "until")
    (link,) = shares(server, trip)
    assert link["status"] == "active"


def test_who_looks_now_is_seen_coming_and_going(
    browser: Browser, server: Server, trip: Trip
) -> None:
    made = share(server, trip, label="Grandma")
    with tab(browser) as owners:
        open_dialog(owners, server, trip)
        assert owners.page.is_hidden(".viewers")
        with tab(browser) as friends:
            friends.page.goto(f"http://127.0.0.1:{server.port}/s/{made['share_token']}")
            owners.wait_text(".viewers", "1 looks now")
            assert owners.page.is_visible(".viewers")
        owners.page.locator(".viewers").wait_for(state="hidden")
        assert owners.text(".told") == "", "nothing is spoken that nobody did"


def test_the_keyboard_is_enough_and_comes_back_to_where_it_was(
    browser: Browser, server: Server, trip: Trip
) -> None:
    share(server, trip, label="Grandma", expires_in_s=600)
    with tab(browser) as opened:
        open_dialog(opened, server, trip)
        opened.page.keyboard.press("Escape")
        opened.wait(f"() => ({FOCUSED})() === 'share'")
        opened.page.keyboard.press("Enter")
        opened.page.get_by_role("button", name="Change the end").focus()
        opened.page.keyboard.press("Enter")
        opened.wait("() => document.activeElement.matches('.shares select')")
        opened.page.keyboard.press("Escape")  # the form, not the dialog
        assert opened.page.evaluate(FOCUSED) == "Change the end: Grandma"
        assert opened.page.is_visible("#sharing")
        for _ in range(20):
            opened.page.keyboard.press("Tab")
            assert opened.page.evaluate(
                "() => document.activeElement.closest('#sharing') !== null"
                " || document.activeElement === document.body"  # the browser's own buttons
            )
        opened.page.get_by_role("button", name="Revoke").focus()
        opened.page.keyboard.press("Enter")
        opened.wait("() => document.activeElement.matches('li[data-status=revoked]')")


def test_a_list_that_is_renewed_leaves_the_focus_where_it_is(
    browser: Browser, server: Server, trip: Trip
) -> None:
    share(server, trip, label="Grandma")
    with tab(browser) as opened:
        open_dialog(opened, server, trip)
        opened.page.get_by_role("button", name="Revoke: Grandma").focus()
        share(server, trip, label="Uncle")
        opened.wait_text(".shares li:first-child", "Uncle")
        assert opened.page.evaluate(FOCUSED) == "Revoke: Grandma"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, server: Server, trip: Trip, scheme: str) -> None:
    made = share(server, trip, label="Grandma")
    with (
        tab(browser) as friends,
        tab(browser, color_scheme=scheme, bypass_csp=True) as opened,
    ):
        friends.page.goto(f"http://127.0.0.1:{server.port}/s/{made['share_token']}")
        friends.wait_text("#badge", "Live")
        open_dialog(opened, server, trip)
        opened.wait_text(".viewers", "1 looks now")
        opened.page.get_by_role("button", name="Change the end").click()
        opened.page.evaluate(AXE.read_text())
        found = opened.page.evaluate("axe.run().then(({violations}) => violations)")
        assert not found, [(each["id"], [n["html"] for n in each["nodes"]]) for each in found]
