"""The owner's and the shared page in Chromium: when the runner comes, and that it has come."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import DESKTOP, chromium, tab
from tests.running import Platform, Server, stamp, wait_until
from tests.sharing import share
from tests.simulated import Spot
from tests.test_arrival_stream import engine, on_the_way, platform, server, wait_there
from tests.test_arriving import place
from tests.test_ops_page import open_ops, search
from tests.trip_page import open_track

__all__ = ["engine", "platform", "server"]  # fixtures


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def test_the_pages_say_in_how_many_minutes_and_that_it_has_arrived(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = on_the_way(engine)
    link = share(server, trip)
    with tab(browser) as own, tab(browser) as friends:
        open_track(own, server, trip)
        friends.page.goto(f"http://127.0.0.1:{server.port}/s/{link['share_token']}")
        # 700 m at about 0.1 s for each: 58 to 81 s from the last report on.
        for opened in (own, friends):
            wait_until(
                lambda opened=opened: re.search(  # type: ignore[misc]
                    r"Arrives\s*within (a minute|2 minutes)", opened.text("#facts")
                ),
                "an ETA on the page",
            )
        wait_there(platform, trip)
        for opened in (own, friends):
            wait_until(
                lambda opened=opened: re.fullmatch(  # type: ignore[misc]
                    r"Arrived at the pick-up, \d+[:.]\d\d.*", opened.text("#headline")
                ),
                "the arrival on the page",
            )
            wait_until(
                lambda opened=opened: "Arrives" not in opened.text("#facts"),  # type: ignore[misc]
                "no ETA any more",
            )
        for second, west_m in ((192, 200), (194, 260), (196, 320)):
            longitude, latitude = place(Spot(-west_m, 0))
            platform.update(trip, second, longitude=longitude, latitude=latitude)
        for opened in (own, friends):
            opened.wait_text("#headline", "The runner is on the way to the pick-up")


def test_the_operators_list_and_details_say_since_when_it_is_there(
    browser: Browser, server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = on_the_way(engine)
    number = str(trip.booking_id)[:8]  # it has none of its own
    with tab(browser, viewport=DESKTOP) as opened:
        open_ops(opened, server)
        search(opened, number)
        opened.wait_text(".row:not([hidden]) .what", "Near the pick-up since ")
        opened.page.click(".row:not([hidden])")
        opened.wait_text("#detail dd", "Near the pick-up since ")
        wait_there(platform, trip)
        for place in (".row:not([hidden]) .what", "#detail dd"):
            opened.wait_text(place, "At the pick-up since ")
        platform.send(
            "booking.pet_picked_up", **trip.identity(), picked_up_at=stamp(trip.at(195)),
            occurred_at=stamp(trip.at(195)),
        )  # fmt: skip
        opened.wait_text("#detail dd", "To the drop-off")
        opened.page.click("#detail header button")
        opened.page.click(".row:not([hidden])")
        opened.wait_text("#detail dl", "At the pick-up")
