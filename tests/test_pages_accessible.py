"""Every page in every state: axe finds nothing, light and dark, on a phone and a large screen."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, WebSocketRoute

from tests.browser import AXE, DESKTOP, PHONE, Tab, chromium, tab
from tests.running import Platform, Server, Trip, envelope, wait_until
from tests.served import stored_trip, track, wait_seq
from tests.sharing import revoke, share
from tests.trip_page import address, moving_trip, open_live, open_track

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
RUN: Final = "axe.run().then(({violations}) => violations)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def trip(server: Server, platform: Platform) -> Trip:
    return moving_trip(server, platform)


@contextmanager
def looked_at(browser: Browser) -> Iterator[Tab]:
    """What the test has opened is looked at in four ways, and its console has no error."""
    with tab(browser, bypass_csp=True) as opened:
        yield opened
        opened.page.evaluate(AXE.read_text())
        for scheme in SCHEMES:
            for size in (PHONE, DESKTOP):
                opened.page.emulate_media(color_scheme=scheme)
                opened.page.set_viewport_size({"width": size["width"], "height": size["height"]})
                found: list[dict[str, Any]] = opened.page.evaluate(RUN)
                told = [(each["id"], [n["html"] for n in each["nodes"]]) for each in found]
                assert not told, (scheme, size, told)


def test_loading(browser: Browser, server: Server, trip: Trip) -> None:
    def never_answered(_: WebSocketRoute) -> None:
        """Open, and silent."""

    with looked_at(browser) as opened:
        opened.context.route_web_socket("**", never_answered)
        open_track(opened, server, trip)
        opened.wait_text("#headline", "Connecting")


def test_live(browser: Browser, server: Server, trip: Trip) -> None:
    with looked_at(browser) as opened:
        open_live(opened, server, trip)


def test_silent(browser: Browser, server: Server, platform: Platform) -> None:
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip)
    wait_until(lambda: track(server, trip), "accepted")
    event = envelope("runner.location_update", trip.update(0))
    platform.send_raw("runner.events", json.dumps(event).encode(), at=trip.start)
    wait_seq(server, trip, 1)
    with looked_at(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#notice", "silent")


def test_link_down(browser: Browser, server: Server, trip: Trip) -> None:
    with looked_at(browser) as opened:
        open_live(opened, server, trip)
        opened.context.set_offline(True)
        opened.wait_text("#notice", "interrupted")


def test_over(browser: Browser, server: Server, platform: Platform, trip: Trip) -> None:
    platform.deliver(trip, datetime.now(UTC))
    wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    with looked_at(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#facts", "On the move")


def test_unknown(browser: Browser, server: Server) -> None:
    with looked_at(browser) as opened:
        open_track(opened, server, Trip())
        opened.wait_text("#headline", "cannot be shown")


def test_no_token(browser: Browser, server: Server, trip: Trip) -> None:
    with looked_at(browser) as opened:
        opened.page.goto(address(server, trip))
        opened.wait_text("#login-text", "sign in")


def test_sharing_dialog(browser: Browser, server: Server, trip: Trip) -> None:
    share(server, trip, label="Grandma")
    revoke(server, trip, share(server, trip, label="Grandpa")["id"])
    with looked_at(browser) as opened:
        open_live(opened, server, trip)
        opened.page.click("#share")
        opened.wait_text(".shares", "Grandma")
        opened.wait_text(".shares", "revoked")


@pytest.mark.parametrize("state", ["live", "ended"])
def test_shared_link(browser: Browser, server: Server, trip: Trip, state: str) -> None:
    link = share(server, trip)
    if state == "ended":
        revoke(server, trip, link["id"])
    with looked_at(browser) as opened:
        opened.page.goto(f"http://127.0.0.1:{server.port}/s/{link['share_token']}")
        if state == "ended":
            opened.wait_text("#headline", "cannot be shown")
        else:
            opened.wait_text("#position", "° E")


@pytest.fixture(params=["active", "finished"])
def numbered(
    request: pytest.FixtureRequest, server: Server, platform: Platform
) -> tuple[Trip, str, str]:
    """With a booking number that no other test has; a quarter of an hour, a gap, a late point."""
    trip, number = Trip(datetime.now(UTC) - timedelta(minutes=15)), f"BK-{uuid4().hex[:8]}"
    platform.accept(trip, booking_number=number)
    for second in (1, 2, 300, 301, 3):
        platform.update(trip, second)
    wait_seq(server, trip, 5)
    if request.param == "finished":
        platform.deliver(trip, trip.at(400))
        wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    return trip, number, request.param


def open_ops(opened: Tab, server: Server, role: str = "admin") -> None:
    token = server.token(uuid4(), role)
    opened.page.goto(f"http://127.0.0.1:{server.port}/ops#token={token}")


def test_ops_trip(browser: Browser, server: Server, numbered: tuple[Trip, str, str]) -> None:
    _, number, state = numbered
    row = ".row:not([hidden])" if state == "active" else ".found"
    with looked_at(browser) as opened:
        opened.page.set_viewport_size({"width": DESKTOP["width"], "height": DESKTOP["height"]})
        open_ops(opened, server)
        opened.page.fill("input[type=search]", number)
        opened.wait_text(row, number)
        opened.page.click(row)
        opened.wait_text("#detail h2", number)


def test_ops_list(browser: Browser, server: Server, platform: Platform) -> None:
    """With the trips of other tests, which may have no number."""
    stored_trip(server, platform)
    with looked_at(browser) as opened:
        open_ops(opened, server)
        opened.page.fill("input[type=search]", "BK-")
        opened.wait_text(".row:not([hidden]) strong", "BK-")


def test_ops_health(browser: Browser, server: Server) -> None:
    with looked_at(browser) as opened:
        open_ops(opened, server)
        opened.page.get_by_role("button", name="Service").click()
        opened.wait_text(".checks", "database")


def test_ops_refused(browser: Browser, server: Server) -> None:
    with looked_at(browser) as opened:
        open_ops(opened, server, "owner")
        opened.wait_text("#login-text", "administrators")
