"""What lies over the map of every page: the scale bar, and the trip where it can be seen."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from dev.pictures import NO_WEBGL
from tests.browser import DESKTOP, PHONE, Tab, chromium, tab
from tests.running import Platform, Server, Trip, stamp, wait_until
from tests.served import owner, track, wait_seq
from tests.sharing import share

# The box around all that is drawn on the canvas of routes and ends, in CSS pixels.
DRAWN = """() => {
  const canvas = document.querySelector(".overlay canvas");
  const {width, height} = canvas;
  const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
  let [top, bottom, count] = [height, -1, 0];
  for (let index = 3; index < data.length; index += 4) {
    if (data[index] === 0) continue;
    const y = Math.floor(index / 4 / width);
    [top, bottom, count] = [Math.min(top, y), Math.max(bottom, y), count + 1];
  }
  const box = canvas.getBoundingClientRect();
  const at = (y) => box.top + y * box.height / height;
  return {count, top: at(top), bottom: at(bottom)};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def trip(server: Server, platform: Platform) -> Trip:
    trip = Trip(datetime.now(UTC) - timedelta(minutes=1))
    platform.accept(trip, booking_number=f"BK-{trip.booking_id.hex[:8]}")
    for second in (1, 30):
        platform.update(trip, second, latitude=-6.2 + second * 1e-4)
    wait_seq(server, trip, 2)
    return trip


def scale_of(tab: Tab) -> str:
    tab.page.locator("#map[data-drawn]").wait_for(state="attached")
    tab.wait("() => /[0-9]/.test(document.querySelector('.scale')?.textContent ?? '')")
    return tab.text(".scale b")


@pytest.mark.parametrize("script", ["", NO_WEBGL], ids=["whole", "plain"])
def test_the_owners_and_a_friends_map_have_a_scale(
    browser: Browser, server: Server, trip: Trip, script: str
) -> None:
    made = share(server, trip)
    owners = f"/track/{trip.booking_id}#token={owner(server, trip)}"
    for path in (owners, f"/s/{made['share_token']}"):
        with tab(browser) as opened:
            opened.context.add_init_script(script)
            opened.page.goto(f"http://127.0.0.1:{server.port}{path}")
            opened.wait_text("#badge", "Live")
            assert re.fullmatch(r"[125]0*\sk?m", scale_of(opened))
            before = scale_of(opened)
            for _ in range(3):
                opened.page.click("#zoom-out")
            opened.wait("(text) => document.querySelector('.scale b').textContent !== text", before)


def test_on_a_phone_the_operators_details_do_not_hide_the_trip(
    browser: Browser, server: Server, platform: Platform, trip: Trip
) -> None:
    platform.deliver(trip, datetime.now(UTC))
    wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    token = server.token(uuid4(), "admin")
    with tab(browser, viewport=PHONE) as opened:
        opened.page.goto(f"http://127.0.0.1:{server.port}/ops#token={token}")
        assert scale_of(opened)
        opened.page.fill("input[type=search]", f"BK-{trip.booking_id.hex[:8]}")
        opened.page.click(".found")
        opened.wait_text("#detail", "completed")
        opened.wait(f"() => {{ const box = ({DRAWN})(); return box.count > 0"
                    " && box.bottom < document.querySelector('#detail').getBoundingClientRect().top"
                    " && box.top > 0; }")  # fmt: skip


def test_before_the_first_position_both_ends_are_seen(
    browser: Browser, server: Server, platform: Platform
) -> None:
    trip = Trip(datetime.now(UTC))
    now = stamp(trip.start)
    platform.send(
        "booking.requested", **trip.identity(), pet_type="cat", pet_name="Miso",
        pickup_lat=-6.2, pickup_lng=106.8, dropoff_lat=-6.21, dropoff_lng=106.83,
        estimated_price_cents=1, currency="IDR", occurred_at=now,
    )  # fmt: skip
    platform.accept(trip)
    wait_until(lambda: track(server, trip), "accepted")
    with tab(browser, viewport=DESKTOP) as opened:
        path = f"/track/{trip.booking_id}#token={owner(server, trip)}"
        opened.page.goto(f"http://127.0.0.1:{server.port}{path}")
        opened.wait_text("#position", "No position yet")
        # From the south of one to the north of the other: far apart only where the map is near.
        opened.wait(f"() => {{ const {{count, top, bottom}} = ({DRAWN})();"
                    " return count > 0 && bottom - top > 100; }")  # fmt: skip
