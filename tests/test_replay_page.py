"""The owner's page of an ended trip: shown again, and taken away as a file, in a real browser."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import gpxpy
import pytest
from playwright.sync_api import Browser

from tests.browser import AXE, DESKTOP, PHONE, Tab, chromium, tab
from tests.running import Platform, Server, Trip, wait_until
from tests.served import track, wait_seq
from tests.trip_page import open_track, wait_map


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def ended(server: Server, platform: Platform) -> Trip:
    """Twenty seconds, eleven minutes of nothing, twenty seconds more."""
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30))
    platform.accept(trip)
    seconds = [*range(0, 21, 2), *range(700, 721, 2)]
    for second in seconds:
        platform.update(trip, second, longitude=106.8 + min(second, second - 660, key=abs) * 5e-4)
    wait_seq(server, trip, len(seconds))
    platform.deliver(trip, trip.at(730))
    wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    return trip


def open_ended(opened: Tab, server: Server, trip: Trip) -> None:
    open_track(opened, server, trip)
    opened.wait_text(".replay", "Play")
    wait_map(opened)


def test_the_trip_is_played_paused_and_sought_with_the_keyboard(
    browser: Browser, server: Server, ended: Trip
) -> None:
    with tab(browser) as opened:
        open_ended(opened, server, ended)
        first = f"{ended.start:%H:%M:%S}"
        opened.wait_text(".replay output", first)
        opened.page.focus(".replay .primary")
        opened.page.keyboard.press("Enter")
        opened.wait_text(".replay .primary", "Pause")
        opened.wait(
            "() => { const {marker} = document.querySelector('.overlay').drawn();"
            " return marker !== null && marker.longitude > 106.8015 && marker.longitude < 106.81; }"
        )
        opened.page.keyboard.press("Enter")
        opened.wait_text(".replay .primary", "Play")
        opened.page.focus(".replay .time")
        opened.page.keyboard.press("End")
        opened.page.keyboard.press("PageDown")
        opened.wait("() => document.querySelector('.overlay').drawn().marker?.longitude > 106.815")
        opened.page.keyboard.press("Home")
        opened.wait_text(".replay output", first)
        opened.page.select_option(".replay select", "60")
        opened.page.click(".replay .primary")
        opened.wait_text(".replay .note", "without a position")
        opened.wait_text(".replay .primary", "Play")  # at its end
        opened.wait_text(".replay output", f"{ended.at(720):%H:%M:%S}")
        assert opened.page.evaluate("document.querySelector('.overlay').drawn().route.length") == 22


def test_a_link_that_breaks_is_opened_again_where_it_was(
    browser: Browser, server: Server, ended: Trip
) -> None:
    with tab(browser) as opened:
        opened.page.add_init_script("""
          const Real = WebSocket;
          window.sockets = [];
          window.WebSocket = class extends Real {
            constructor(...all) { super(...all); window.sockets.push(this); }
          };""")
        open_ended(opened, server, ended)
        opened.page.select_option(".replay select", "1")
        opened.page.click(".replay .primary")
        opened.wait("() => document.querySelector('.overlay').drawn().marker?.longitude > 106.802")
        opened.page.evaluate("sockets.at(-1).close(4000)")
        opened.wait("() => sockets.length === 3")
        opened.wait("() => document.querySelector('.overlay').drawn().marker?.longitude > 106.806")


@pytest.mark.parametrize("ending", ["gpx", "geojson", "kml", "csv"])
def test_the_route_is_saved_as_a_file(
    browser: Browser, server: Server, ended: Trip, ending: str, tmp_path: Path
) -> None:
    with tab(browser) as opened:
        open_ended(opened, server, ended)
        opened.page.focus(".downloads summary")
        opened.page.keyboard.press("Enter")
        with opened.page.expect_download() as told:
            opened.page.click(f"[data-file='export.{ending}']")
        assert told.value.suggested_filename == f"BK-1.{ending}"
        told.value.save_as(tmp_path / "file")
        opened.wait_text(".downloads .told", f"BK-1.{ending}")
        content = (tmp_path / "file").read_text()
        if ending == "gpx":
            assert len([*gpxpy.parse(content).walk(only_points=True)]) == 22
        if ending == "geojson":
            assert [
                len(each["geometry"]["coordinates"]) for each in json.loads(content)["features"]
            ] == [11, 11]
        assert "?" not in opened.page.url
        opened.page.keyboard.press("Escape")
        opened.wait("() => !document.querySelector('.downloads').open")


def test_who_watches_a_live_trip_has_neither(
    browser: Browser, server: Server, platform: Platform
) -> None:
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip)
    platform.update(trip, 1)
    wait_seq(server, trip, 1)
    with tab(browser) as opened:
        open_track(opened, server, trip)
        opened.wait_text("#badge", "Live")
        assert opened.page.locator("#after > *").count() == 0


def test_axe_finds_nothing_while_it_plays(browser: Browser, server: Server, ended: Trip) -> None:
    with tab(browser, bypass_csp=True) as opened:
        open_ended(opened, server, ended)
        opened.page.click(".downloads summary")
        opened.page.select_option(".replay select", "1")
        opened.page.click(".replay .primary")
        opened.wait_text(".replay .primary", "Pause")
        opened.page.evaluate(AXE.read_text())
        for scheme in ("light", "dark"):
            for size in (PHONE, DESKTOP, {"width": 320, "height": 568}):
                opened.page.emulate_media(color_scheme=scheme)
                opened.page.set_viewport_size({"width": size["width"], "height": size["height"]})
                found = opened.page.evaluate("axe.run().then(({violations}) => violations)")
                assert [each["id"] for each in found] == [], (scheme, size)
                assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
