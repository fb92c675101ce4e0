"""The owner's and the shared page in Chromium: when the runner comes, and that it has come."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import chromium, tab
from tests.running import Platform, Server, wait_until
from tests.sharing import share
from tests.test_arrival_stream import engine, on_the_way, platform, server, wait_there
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
