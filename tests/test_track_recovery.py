"""The owner's page over restarts and dead links: at the end the line on the map is the table's."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from kafka import KafkaConsumer
from playwright.sync_api import Browser

from tests.browser import chromium, tab
from tests.running import Platform, Server, Trip, envelope, running_server, wait_until
from tests.served import track, wait_seq
from tests.trip_page import moving_trip, open_live, open_track, wait_route


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def own_server(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One that is restarted, always on the same port."""
    log: Path = tmp_path_factory.mktemp("recovery") / "log"
    with running_server(database, log) as server:
        server.environ["SERVICE_PORT"] = str(server.port)
        yield server


@pytest.fixture(scope="module")
def own_platform(own_server: Server) -> Iterator[Platform]:
    environ = own_server.environ
    platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
    yield platform
    platform.close()


@pytest.fixture
def trip(own_server: Server, own_platform: Platform) -> Trip:
    return moving_trip(own_server, own_platform)


def test_a_restart_and_a_dead_link_lose_nothing(
    browser: Browser, own_server: Server, own_platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    with tab(browser) as opened:
        open_live(opened, own_server, trip)
        wait_route(opened, engine, trip)
        own_server.stop()
        for second in (7, 6, 8):  # while nobody is there to store them
            own_platform.update(trip, second)
        opened.wait_text("#badge", "Not live")
        own_server.start()
        wait_seq(own_server, trip, 8)
        opened.context.set_offline(True)
        for second in (12, 9, 10):  # stored, and not heard by the page
            own_platform.update(trip, second)
        wait_seq(own_server, trip, 11)
        opened.context.set_offline(False)
        own_platform.update(trip, 13)
        wait_seq(own_server, trip, 12)
        wait_route(opened, engine, trip)
        opened.wait_text("#badge", "Live")
        opened.wait_text("#position", "106.80130° E")


def test_what_a_phone_sends_after_an_outage_fills_the_gap_and_is_told(
    browser: Browser, own_server: Server, own_platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    with tab(browser) as opened:
        open_live(opened, own_server, trip)
        own_platform.update(trip, 50)
        opened.wait_text("#position", "106.80500° E")
        wait_route(opened, engine, trip)
        # All of the buffer in one batch, as it mostly is; an old position moves no marker.
        for second in range(10, 50, 5):
            own_platform.update(trip, second)
        opened.wait_text("#toast", "Filled in after a gap")
        wait_seq(own_server, trip, 14)
        wait_route(opened, engine, trip)
        assert "106.80500° E" in opened.text("#position")
    with tab(browser) as opened:  # who comes later has missed nothing
        open_live(opened, own_server, trip)
        wait_route(opened, engine, trip)
        assert opened.page.locator("#toast").is_hidden()


@pytest.fixture
def silent_trip(own_server: Server, own_platform: Platform) -> Trip:
    """Its only position came to Kafka a minute ago, so that nobody has to wait for that."""
    then = datetime.now(UTC) - timedelta(minutes=1)
    trip = Trip(then)
    own_platform.accept(trip)
    wait_until(lambda: track(own_server, trip), "accepted")
    event = envelope("runner.location_update", trip.update(0))
    own_platform.send_raw("runner.events", json.dumps(event).encode(), at=then)
    wait_seq(own_server, trip, 1)
    return trip


def test_a_silent_phone_is_told_from_a_pipeline_that_is_behind(
    browser: Browser, own_server: Server, own_platform: Platform, silent_trip: Trip
) -> None:
    with tab(browser) as opened:
        open_track(opened, own_server, silent_trip)
        opened.wait_text("#notice", "The runner's phone is silent")
        assert opened.text("#badge") == "Not live"
        # What another member of the group reads, this server does not know of.
        other = KafkaConsumer(
            bootstrap_servers=own_platform.brokers, group_id=own_server.environ["KAFKA_GROUP_ID"]
        )
        other.subscribe(pattern=f"^{own_platform.prefix}\\.(booking|runner)\\.[a-z_]+$")

        def is_told() -> bool:
            other.poll(timeout_ms=100)
            return "Our service is behind" in opened.text("#notice")

        wait_until(is_told, "the service behind")
        other.close(autocommit=False, timeout_ms=5000)
        opened.wait_text("#notice", "The runner's phone is silent")
        own_platform.update(silent_trip, 60)
        opened.wait_text("#badge", "Live")
        assert opened.page.is_hidden("#notice")


def test_a_dead_link_is_told_as_such_and_when_the_next_try_is(
    browser: Browser, own_server: Server, own_platform: Platform, engine: sa.Engine, trip: Trip
) -> None:
    """Nobody answers any more, which the page finds out when the browser says it is offline."""
    with tab(browser) as opened:
        open_live(opened, own_server, trip)
        opened.context.set_offline(True)
        opened.wait_text("#notice", "Your connection is interrupted")
        opened.wait_text("#notice", "Next try in")
        assert opened.text("#badge") == "Not live"
        assert "106.80040° E" in opened.text("#position"), "what is known stays"
        own_platform.update(trip, 9)
        wait_seq(own_server, trip, 6)
        opened.context.set_offline(False)
        opened.wait_text("#badge", "Live")
        wait_route(opened, engine, trip)
