"""What somebody writes into an event, a label or an address is text on a page, or nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Dialog

from tests.browser import DESKTOP, Tab, chromium, tab
from tests.running import Platform, Server, Trip, stamp, wait_until
from tests.served import track, wait_seq
from tests.sharing import share
from tests.trip_page import address, open_track, wait_map

ATTACKS = (
    "<img data-attack src=x onerror=alert(1)>",
    '"><script data-attack>alert(1)</script>',
    "'><svg data-attack onload=alert(1)>",
    '<a data-attack href="javascript:alert(1)">',
    "&lt;b data-attack&gt;${alert(1)}{{alert(1)}}",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def poisoned(trip: Trip, attack: str) -> dict[str, str]:
    """All that other services may write as they like, known here or not."""
    fields = ("booking_number", "pet_name", "pet_type", "owner_name", "runner_name", "currency",
              "pickup_address", "dropoff_address", "note", "cancelled_by", "reason")  # fmt: skip
    return {**trip.identity(), **dict.fromkeys(fields, attack)}


def attacked_trip(server: Server, platform: Platform, attack: str, mark: str) -> Trip:
    """Its booking number is the attack, and a mark to find it by."""
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    at = stamp(trip.start)
    ends = {"pickup_lat": -6.2, "pickup_lng": 106.8, "dropoff_lat": -6.2, "dropoff_lng": 106.9}
    fields = {**poisoned(trip, attack), "booking_number": mark + attack, "occurred_at": at}
    platform.send("booking.requested", **fields, **ends)
    platform.send("booking.accepted", **fields)
    platform.send("booking.pet_picked_up", **fields, picked_up_at=at)
    platform.update(trip, 1, status_text=attack, device=attack)
    wait_seq(server, trip, 1)
    return trip


def watch(opened: Tab) -> list[str]:
    """Dialogs that open; the page's own errors are watched anyway."""
    told: list[str] = []

    def hear(dialog: Dialog) -> None:
        told.append(dialog.message)
        dialog.dismiss()

    opened.page.on("dialog", hear)
    return told


def is_clean(opened: Tab, dialogs: list[str]) -> bool:
    found = opened.page.locator("[data-attack]").count()
    return found == 0 and dialogs == []


@pytest.mark.parametrize("attack", ATTACKS, ids=["img", "script", "svg", "link", "entities"])
def test_an_event_of_attacks_is_text(
    browser: Browser, server: Server, platform: Platform, attack: str
) -> None:
    mark = uuid4().hex[:6]
    trip = attacked_trip(server, platform, attack, mark)
    link = share(server, trip, label=attack)
    with tab(browser, viewport=DESKTOP) as opened:
        dialogs = watch(opened)
        open_track(opened, server, trip)
        opened.wait_text("#headline", "Your pet is on its way")
        opened.page.click("#share")
        opened.wait_text(".shares", attack)
        wait_map(opened)
        assert is_clean(opened, dialogs)
        secret = link["share_token"]
        opened.page.goto(f"http://127.0.0.1:{server.port}/s/{secret}")
        opened.wait_text("#position", "106.80010° E")
        assert attack not in opened.text("body")
        assert is_clean(opened, dialogs)
        look_at_ops(opened, server, mark, attack)
        end(server, platform, trip, attack)
        opened.page.fill("input[type=search]", mark + attack[:10])
        opened.wait_text("#finished .found", mark + attack)
        assert is_clean(opened, dialogs)


def look_at_ops(opened: Tab, server: Server, mark: str, attack: str) -> None:
    admin = server.token(uuid4(), "admin")
    opened.page.goto(f"http://127.0.0.1:{server.port}/ops#token={admin}")
    opened.page.fill("input[type=search]", mark)
    opened.wait_text(".row:not([hidden]) strong", mark + attack)
    opened.page.click(".row:not([hidden])")
    opened.wait_text("#detail h2", mark + attack)


def end(server: Server, platform: Platform, trip: Trip, attack: str) -> None:
    platform.send("booking.cancelled", **poisoned(trip, attack),
                  occurred_at=stamp(datetime.now(UTC)))  # fmt: skip
    wait_until(lambda: track(server, trip)["status"] == "cancelled", "the end")


def test_the_return_address_for_the_login_is_the_pages_own(
    browser: Browser, server: Server
) -> None:
    """Whatever a token's fragment holds beside it stays in the page, and is no markup."""
    trip = Trip()
    with tab(browser) as opened:
        dialogs = watch(opened)
        opened.page.goto(f"{address(server, trip)}#token=x&return=javascript:alert(1)")
        opened.wait_text("#login-text", "sign in")
        assert "token" not in opened.page.url
        assert opened.page.locator("#login-link").get_attribute("href") is None
        assert is_clean(opened, dialogs)


@pytest.mark.parametrize("attack", ATTACKS[:3], ids=["img", "script", "svg"])
def test_an_address_of_attacks_does_nothing(browser: Browser, server: Server, attack: str) -> None:
    escaped = quote(attack, safe="")
    with tab(browser) as opened:
        dialogs = watch(opened)
        for path, told in (("track", "Your session has ended"), ("s", "cannot be shown")):
            base = f"http://127.0.0.1:{server.port}/{path}/{escaped}"
            opened.page.goto(f"{base}?lang={escaped}#token={escaped}")
            opened.wait_text("#headline", told)
            assert is_clean(opened, dialogs)
