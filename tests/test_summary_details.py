"""What an ended trip adds up to, in full, on the owner's and on the operator's page."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from playwright.sync_api import Browser

from tests.browser import AXE, DESKTOP, PHONE, Tab, chromium, tab
from tests.running import Server, Trip
from tests.test_api_summary import settled
from tests.test_store_ingest import delivered, update
from tests.trip_page import open_track, wait_map
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.store.ingest.batch import store_batch

PLACE = "() => document.querySelector('.overlay').drawn().place"
RUN = "axe.run().then(({violations}) => violations)"
PICKUP = (106.81, -6.2)
# Where the phone was at which second: it drives to the pickup, stands there for three minutes, is
# silent while it drives 2 km, drives on, is silent without moving, and drives on.
COURSE = (
    *((second, 106.8 + second * 1e-4) for second in range(0, 105, 5)),
    *((second, 106.81) for second in range(105, 280, 5)),
    *((second, 106.83 + (second - 400) * 1e-4) for second in range(400, 455, 5)),
    *((second, 106.8358 + (second - 600) * 1e-4) for second in range(600, 650, 5)),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def reported(trip: Trip, second: int, longitude: float) -> LocationUpdate:
    """With a second of delay; the last ones came two minutes late."""
    made = update(trip, second, longitude=longitude, latitude=PICKUP[1], speed_kmh=40.0)
    delay = timedelta(seconds=120 if second >= 635 else 1)
    return replace(made, received_at=made.recorded_at + delay)


@pytest.fixture
def trip(server: Server, engine: sa.Engine) -> Trip:
    """With what a summary can have: a stop, gaps of both kinds, a jump, late ones."""
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    people = (trip.runner_id, trip.owner_id)
    requested = BookingEvent(
        trip.booking_id, "requested", trip.at(-60), owner_id=trip.owner_id, pickup=PICKUP
    )
    number = f"BK-{trip.booking_id.hex[:8]}"
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, *people, number)
    jump = reported(trip, 52, 107.4)
    reports = [reported(trip, *each) for each in COURSE]
    store_batch(engine, [requested, accepted, *reports, jump, delivered(trip, 650)])
    settled(server, trip)
    return trip


def assert_accessible(opened: Tab) -> None:
    opened.page.evaluate(AXE.read_text())
    for scheme in ("light", "dark"):
        for size in (PHONE, DESKTOP):
            opened.page.emulate_media(color_scheme=scheme)
            opened.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            assert [each["id"] for each in opened.page.evaluate(RUN)] == []


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("en-GB", ["1 stop", "At the pick-up · 6.20000° S, 106.81000° E", "2 times without a",
                   "km farther on, as the crow flies", "In the same place before and after",
                   "Recorded share of the time80%", "Average speed on the move40 km/h",
                   "as the phone said40 km/h", "left-out ones too78", "over a minute late3",
                   "as impossible1", "a corrected clock0"]),
        ("id-ID", ["1 pemberhentian", "Di tempat penjemputan", "2 kali tanpa posisi",
                   "jalannya tidak diketahui", "Di tempat yang sama", "terekam80%",
                   "mustahil1", "dikoreksi0"]),
    ],
)  # fmt: skip
def test_the_owner_finds_stops_gaps_and_how_good_the_record_is(
    browser: Browser, server: Server, trip: Trip, locale: str, words: list[str]
) -> None:
    with tab(browser, locale=locale) as opened:
        open_track(opened, server, trip)
        for word in words:
            opened.wait_text(".record", word)
        assert "p50" not in opened.page.inner_text("body")  # that is the operator's


def test_a_stop_is_shown_on_the_map_by_tap_and_keyboard(
    browser: Browser, server: Server, trip: Trip
) -> None:
    with tab(browser, bypass_csp=True) as opened:
        open_track(opened, server, trip)
        wait_map(opened)
        assert opened.page.is_hidden(".record .stops")
        opened.page.focus(".record summary")
        opened.page.keyboard.press("Enter")
        opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Enter")
        wanted = {"longitude": PICKUP[0], "latitude": PICKUP[1]}
        assert opened.page.evaluate(PLACE) == wanted
        stop = opened.page.locator(".record .stops button")
        assert stop.get_attribute("aria-pressed") == "true"
        assert opened.page.get_attribute("#follow", "aria-pressed") == "false"
        assert_accessible(opened)
        stop.click()
        assert opened.page.evaluate(PLACE) is None
        assert stop.get_attribute("aria-pressed") == "false"


def test_the_operator_has_the_delays_besides(browser: Browser, server: Server, trip: Trip) -> None:
    with tab(browser, viewport=DESKTOP, bypass_csp=True) as opened:
        token = server.token(uuid4(), "admin")
        number = f"BK-{trip.booking_id.hex[:8]}"
        opened.page.goto(f"http://127.0.0.1:{server.port}/ops#token={token}")
        opened.page.fill("input[type=search]", number)
        opened.wait_text(".found", number)
        opened.page.click(".found")
        opened.wait_text("#detail .record", "Delay, p50 / p951.0 secs / 1.0 secs")
        opened.page.click("#detail .record summary")
        opened.page.click("#detail .stops button")
        assert opened.page.evaluate(PLACE) == {"longitude": PICKUP[0], "latitude": PICKUP[1]}
        assert_accessible(opened)
        opened.page.get_by_role("button", name="Close").click()
        assert opened.page.evaluate(PLACE) is None
