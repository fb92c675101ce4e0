"""The owner's page and its token: it runs out, somebody else signs in, the login brings one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route

from tests.browser import Tab, chromium, tab
from tests.running import Platform, Server, Trip, running_server
from tests.served import owner
from tests.trip_page import address, moving_trip, open_track

LOGIN = "https://login.example/in"
# A page refuses to start with a token that ends in five seconds. To see one end without waiting
# for that, the page's clock is a minute behind, as a phone's may be; and then it is put right.
SLOW_CLOCK = """
const realNow = Date.now;
Date.now = () => realNow() - (window.isClockRight ? 0 : 60_000);"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def login_server(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log: Path = tmp_path_factory.mktemp("login") / "log"
    with running_server(database, log, LOGIN_URL=LOGIN, UNKNOWN_BOOKING_GRACE="0") as server:
        yield server


@pytest.fixture(scope="module")
def trip(login_server: Server) -> Trip:
    environ = login_server.environ
    platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
    trip = moving_trip(login_server, platform)
    platform.close()
    return trip


def login_gives(opened: Tab, token: str) -> None:
    """The login page knows who it is, and goes back at once."""
    page = """<!doctype html><script>
      const back = new URLSearchParams(location.search).get("return");
      location.replace(`${back}#token=TOKEN`);
    </script>""".replace("TOKEN", token)

    def give(route: Route) -> None:
        route.fulfill(body=page, content_type="text/html")

    opened.context.route(f"{LOGIN}*", give)


def wait_login(opened: Tab) -> None:
    opened.wait_text("#login-text", "Please sign in again")
    opened.wait_text("#headline", "Your session has ended")
    assert opened.page.is_hidden("#notice"), "it is not the link"
    assert opened.page.is_hidden("#badge")


@pytest.mark.parametrize("clock", ["right", "slow"])
def test_a_token_that_runs_out_is_told_and_the_login_brings_a_new_one(
    browser: Browser, login_server: Server, trip: Trip, clock: str
) -> None:
    with tab(browser) as opened:
        opened.context.add_init_script(SLOW_CLOCK)
        open_track(opened, login_server, trip, lifetime=timedelta(seconds=1))
        opened.wait_text("#position", "106.80040° E")
        if clock == "right":
            opened.page.evaluate("() => { window.isClockRight = true; }")
        wait_login(opened)
        assert opened.page.evaluate("sessionStorage.length") == 0
        login_gives(opened, owner(login_server, trip))
        opened.page.click("#login-link")
        opened.wait_text("#position", "106.80040° E")
        assert opened.page.url == address(login_server, trip)
        assert opened.page.is_hidden("#login")


def test_without_any_token_it_is_the_login_that_is_missing_and_not_the_link(
    browser: Browser, login_server: Server, trip: Trip
) -> None:
    with tab(browser) as opened:
        opened.page.goto(address(login_server, trip))
        wait_login(opened)
        login_gives(opened, owner(login_server, trip))
        opened.page.click("#login-link")
        opened.wait_text("#position", "106.80040° E")


def test_another_users_link_in_the_same_tab_is_that_users(
    browser: Browser, login_server: Server, trip: Trip
) -> None:
    """Only the fragment differs, so the browser does not load the page anew by itself."""
    with tab(browser) as opened:
        open_track(opened, login_server, trip)
        opened.wait_text("#position", "106.80040° E")
        stranger = login_server.token(Trip().owner_id, "owner")
        opened.page.goto(f"{address(login_server, trip)}#token={stranger}")
        opened.wait_text("#headline", "cannot be shown")
        assert "token" not in opened.page.url
        assert opened.text("#position") == ""
        open_track(opened, login_server, trip)
        opened.wait_text("#position", "106.80040° E")


def test_a_refresh_token_opens_nothing(browser: Browser, login_server: Server, trip: Trip) -> None:
    with tab(browser) as opened:
        open_track(opened, login_server, trip, token_type="refresh")
        wait_login(opened)
        assert opened.text("#position") == ""
