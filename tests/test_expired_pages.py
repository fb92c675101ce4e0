"""The pages of a trip whose route was deleted for its age: they say so, and what it adds up to."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser

from tests.browser import DESKTOP, chromium, tab
from tests.running import Server, Trip, running_server, wait_until
from tests.sharing import share
from tests.test_api_summary import settled
from tests.test_receipts import KEY, private
from tests.test_store_ingest import delivered, update
from tests.trip_page import open_track
from tracking.domain.events import BookingEvent
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import expiry

GONE = "The route was deleted for its age."


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


def expired(server: Server, engine: sa.Engine, number: str) -> Trip:
    """It ended three days ago after half an hour, and its route has gone."""
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(days=3))
    people = (trip.runner_id, trip.owner_id)
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, *people, number)
    reports = [update(trip, second) for second in range(0, 900, 5)]
    store_batch(engine, [accepted, *reports, delivered(trip, 1800)])
    settled(server, trip)
    floor = trip.start - timedelta(days=1)

    def is_gone() -> bool:
        return expiry.expire(engine, [trip.booking_id], datetime.now(UTC), floor) == 1

    wait_until(is_gone, "settled and gone")
    return trip


def test_the_owner_is_told_and_has_the_sums_and_the_receipt(
    browser: Browser, signing: Server, engine: sa.Engine, tmp_path: Path
) -> None:
    trip = expired(signing, engine, f"BK-{uuid4().hex[:8]}")
    with tab(browser) as opened:
        open_track(opened, signing, trip)
        opened.wait_text("#notice", GONE)
        opened.wait_text("#facts", "On the move")
        facts = opened.text("#facts")
        assert "Duration\n30 min" in facts
        assert "Driven\n" in facts
        assert "Stops" not in facts  # nobody knows: they were places
        assert opened.page.is_hidden("#whole")
        assert opened.page.locator(".replay, [data-file^=export]").count() == 0
        opened.page.click(".downloads summary")
        with opened.page.expect_download() as told:
            opened.page.click("[data-file=receipt]")
        told.value.save_as(tmp_path / "receipt")
    claims = jwt.decode((tmp_path / "receipt").read_text(), KEY.public_key(), ["EdDSA"])
    assert claims["booking_id"] == str(trip.booking_id)


def test_where_nothing_can_be_had_there_is_no_menu(
    browser: Browser, server: Server, engine: sa.Engine
) -> None:
    trip = expired(server, engine, f"BK-{uuid4().hex[:8]}")
    with tab(browser, locale="id-ID") as opened:
        open_track(opened, server, trip)
        opened.wait_text("#notice", "Rute sudah dihapus karena usianya.")
        opened.wait_text("#facts", "Bergerak")
        assert opened.page.locator(".downloads").count() == 0


def test_a_friend_is_told_and_has_the_times(
    browser: Browser, server: Server, engine: sa.Engine
) -> None:
    trip = expired(server, engine, f"BK-{uuid4().hex[:8]}")
    link = share(server, trip, after_end_s=6 * 86_400)
    with tab(browser) as opened:
        opened.page.goto(f"http://127.0.0.1:{server.port}/s/{link['share_token']}")
        opened.wait_text("#notice", GONE)
        assert "Duration\n30 min" in opened.text("#facts")
        assert opened.page.is_hidden("#whole")


def test_the_operator_is_told_and_sees_nothing_that_would_be_of_points(
    browser: Browser, server: Server, engine: sa.Engine
) -> None:
    number = f"BK-{uuid4().hex[:8]}"
    expired(server, engine, number)
    with tab(browser, viewport=DESKTOP) as opened:
        token = server.token(uuid4(), "admin")
        opened.page.goto(f"http://127.0.0.1:{server.port}/ops#token={token}")
        opened.page.fill("input[type=search]", number)
        opened.wait_text(".found", number)
        opened.page.click(".found")
        opened.wait_text("#detail h2", number)
        assert opened.text("#detail .notice") == GONE
        for part in ("canvas", ".player", ".downloads"):
            assert opened.page.is_hidden(f"#detail {part}")
        assert "Points" not in opened.text("#detail dl")
        assert "Driven" in opened.text("#detail dl")
