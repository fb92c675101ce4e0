"""The menu of a trip's files, and its receipt: on the owner's and on the operator's page."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Route

from tests.browser import AXE, DESKTOP, PHONE, chromium, tab
from tests.reading import csv_rows
from tests.running import Server, Trip, running_server
from tests.test_api_summary import settled
from tests.test_receipts import KEY, private
from tests.test_store_ingest import delivered, update
from tests.trip_page import open_track
from tracking.domain.events import BookingEvent
from tracking.store.ingest.batch import store_batch


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def signing(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key for receipts."""
    log = tmp_path_factory.mktemp("signing") / "server.log"
    with running_server(database, log, RECEIPT_KEY=private(KEY), REQUESTS_PER_SECOND="0") as server:
        yield server


def answer(status: int, route: Route) -> None:
    route.fulfill(status=status)


def ended(engine: sa.Engine, number: str) -> Trip:
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30))
    people = (trip.runner_id, trip.owner_id)
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, *people, number)
    reports = [update(trip, second) for second in range(0, 100, 5)]
    store_batch(engine, [accepted, *reports, delivered(trip, 100)])
    return trip


def test_the_owner_of_an_ended_trip_gets_its_receipt(
    browser: Browser, signing: Server, engine: sa.Engine, tmp_path: Path
) -> None:
    trip = ended(engine, f"BK-{uuid4().hex[:8]}")
    settled(signing, trip)
    with tab(browser) as opened:
        open_track(opened, signing, trip)
        opened.wait_text(".downloads", "Receipt")
        opened.page.click(".downloads summary")
        with opened.page.expect_download() as told:
            opened.page.click("[data-file=receipt]")
        assert told.value.suggested_filename.endswith(".receipt.jws")
        told.value.save_as(tmp_path / "receipt")
    claims = jwt.decode((tmp_path / "receipt").read_text(), KEY.public_key(), ["EdDSA"])
    assert claims["booking_id"] == str(trip.booking_id)


def test_what_cannot_be_had_is_told(browser: Browser, signing: Server, engine: sa.Engine) -> None:
    trip = ended(engine, f"BK-{uuid4().hex[:8]}")
    with tab(browser) as opened:
        open_track(opened, signing, trip)
        opened.page.click(".downloads summary")
        for status, text in ((409, "not ready"), (410, "deleted"), (503, "did not work")):
            opened.page.route("**/export.gpx", partial(answer, status))
            opened.page.click("[data-file='export.gpx']")
            opened.wait_text(".downloads .told", text)
        opened.page.route("**/export.kml", lambda route: route.abort())
        opened.page.click("[data-file='export.kml']")
        opened.wait_text(".downloads .told", "did not work")


def test_the_operator_has_the_menu_for_the_selected_trip(
    browser: Browser, signing: Server, engine: sa.Engine, tmp_path: Path
) -> None:
    number = f"BK-{uuid4().hex[:8]}"
    ended(engine, number)
    with tab(browser, viewport=DESKTOP, bypass_csp=True) as opened:
        token = signing.token(uuid4(), "admin")
        opened.page.goto(f"http://127.0.0.1:{signing.port}/ops#token={token}")
        opened.page.fill("input[type=search]", number)
        opened.wait_text(".found", number)
        opened.page.click(".found")
        opened.wait_text("#detail h2", number)
        assert "· +" not in opened.text("#detail .events")  # nobody knows when it was heard
        opened.page.click("#detail .downloads summary")
        with opened.page.expect_download() as told:
            opened.page.click("#detail [data-file='export.csv']")
        assert told.value.suggested_filename == f"{number}.csv"
        told.value.save_as(tmp_path / "route")
        assert len(csv_rows((tmp_path / "route").read_bytes())) == 20
        opened.page.evaluate(AXE.read_text())
        for size in (DESKTOP, PHONE):
            opened.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            found = opened.page.evaluate("axe.run().then(({violations}) => violations)")
            assert [each["id"] for each in found] == []
