"""One definition of a gap: what is drawn dashed, counted for operators, and in the summary."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import DESKTOP, chromium, tab
from tests.running import Server, Trip
from tests.test_api_summary import settled
from tests.test_store_ingest import delivered, update
from tests.trip_page import open_track, wait_map, wait_route
from tracking.domain.events import BookingEvent
from tracking.store.ingest.batch import store_batch

GAPS = "() => document.querySelector('.overlay').drawn().gaps"
FACTS = """() => [...document.querySelectorAll('#detail dl div')]
  .map((row) => [...row.children].map((cell) => cell.textContent))"""
# When the phone reported, in seconds, and between which waypoints there is a gap.
EACH_FIVE_SECONDS = (*range(0, 60, 5), *range(110, 160, 5), *range(280, 340, 5))
EACH_MINUTE_AND_A_HALF = (*range(0, 900, 90), *range(1400, 2000, 90))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize(
    ("seconds", "gaps"),
    [
        # 55 s without a report are ten usual intervals, and no gap; 125 s are one.
        pytest.param(EACH_FIVE_SECONDS, [[22, 23]], id="each 5 s"),
        # Longer than a minute each, as usual; 590 s are a gap.
        pytest.param(EACH_MINUTE_AND_A_HALF, [[10, 11]], id="each 90 s"),
    ],
)
def test_a_gap_is_the_same_on_the_map_for_the_operator_and_in_the_summary(
    browser: Browser, server: Server, engine: sa.Engine, seconds: tuple[int, ...],
    gaps: list[list[int]],
) -> None:  # fmt: skip
    number = f"BK-{uuid4().hex[:8]}"
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    people = (trip.runner_id, trip.owner_id)
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, *people, number)
    store_batch(engine, [accepted, *(update(trip, s) for s in seconds), delivered(trip, 2000)])
    summary = settled(server, trip)
    assert [[gap["before_seq"], gap["after_seq"]] for gap in summary["gaps"]] == gaps
    with tab(browser) as opened:
        open_track(opened, server, trip)
        wait_map(opened)
        wait_route(opened, engine, trip)
        assert opened.page.evaluate(GAPS) == gaps
    with tab(browser, viewport=DESKTOP) as opened:
        token = server.token(uuid4(), "admin")
        opened.page.goto(f"http://127.0.0.1:{server.port}/ops#token={token}")
        opened.page.fill("input[type=search]", number)
        opened.wait_text(".found", number)
        opened.page.click(".found")
        opened.wait_text("#detail h2", number)
        assert dict(opened.page.evaluate(FACTS))["Gaps"] == "1"
