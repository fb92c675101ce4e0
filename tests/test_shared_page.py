"""A friend's page, and the owner's dialog that makes its link, in a real browser."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import Tab, chromium, tab
from tests.running import Platform, Server, Trip
from tests.served import owner, wait_seq
from tests.sharing import share
from tests.test_store_ingest import accepted, delivered, update
from tests.trip_page import open_track
from tracking.domain.events import BookingEvent
from tracking.store.ingest.batch import store_batch


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


def made_link(owners: Tab, server: Server, trip: Trip) -> str:
    """As the owner makes it; the address on this server."""
    token = owner(server, trip)
    owners.page.goto(f"http://127.0.0.1:{server.port}/track/{trip.booking_id}#token={token}")
    owners.page.click("#share")
    owners.page.fill("#sharing input", "Grandma")
    owners.page.get_by_role("button", name="Make a link").click()
    owners.wait_text(".told", "/s/")
    secret = owners.text(".told").rpartition("/s/")[2].strip()
    return f"http://127.0.0.1:{server.port}/s/{secret}"


def test_a_link_is_live_counted_and_goes_dark_when_it_is_revoked(
    browser: Browser, server: Server, platform: Platform, trip: Trip
) -> None:
    with tab(browser) as owners, tab(browser) as friends:
        link = made_link(owners, server, trip)
        owners.wait_text(".shares", "Grandma")
        owners.wait_text(".shares", "not opened yet")
        friends.page.goto(link)
        friends.wait_text("#position", "106.80010° E")
        platform.update(trip, 30)
        friends.wait_text("#position", "106.80300° E")
        assert friends.page.locator("#share").count() == 0
        owners.page.get_by_role("button", name="Close").click()
        owners.page.click("#share")
        owners.wait_text(".shares", "opened 1")
        owners.page.get_by_role("button", name="Revoke").click()
        friends.wait_text("#headline", "cannot be shown")
        owners.wait_text(".shares", "revoked")


def test_an_unknown_link_says_no_more_than_a_revoked_one(browser: Browser, server: Server) -> None:
    with tab(browser) as opened:
        opened.page.goto(f"http://127.0.0.1:{server.port}/s/{'x' * 43}")
        opened.wait_text("#headline", "cannot be shown")


def test_an_ended_trip_took_as_long_as_its_owner_is_told(
    browser: Browser, server: Server, engine: sa.Engine
) -> None:
    """Whenever its first and last waypoints were; what is counted from the pickup says so."""
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    updates = [update(trip, second) for second in range(660, 960, 5)]
    picked_up = BookingEvent(trip.booking_id, "picked_up", trip.at(600), trip.runner_id)
    store_batch(engine, [accepted(trip), picked_up, *updates, delivered(trip, 1800)])
    whole, from_pickup = share(server, trip), share(server, trip, **{"from": "pickup"})
    with tab(browser) as owners, tab(browser) as friends:
        open_track(owners, server, trip)
        friends.page.goto(f"http://127.0.0.1:{server.port}/s/{whole['share_token']}")
        for opened in (owners, friends):
            opened.wait_text("#facts", "Duration30 min")
        friends.page.goto(f"http://127.0.0.1:{server.port}/s/{from_pickup['share_token']}")
        friends.wait_text("#facts", "From the pick-up to the end20 min")
        assert "Duration" not in friends.text("#facts")
        assert "Began" not in friends.text("#facts")
