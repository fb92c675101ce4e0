"""What is erased is gone whole or not at all, whenever the process dies, and stays away."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from uuid import UUID

import pytest
import sqlalchemy as sa

from faults import rows
from faults.launcher import ERASING
from faults.load import Sender
from faults.scenario import Scenario
from tests.running import wait_until
from tests.served import API, owner
from tests.sharing import ask
from tests.test_erasure import ended, remaining
from tracking.errors import DatabaseUnavailable
from tracking.settings import DatabaseSettings, KafkaSettings
from tracking.store.engine import create_engine
from tracking.store.erasing.bookings import erase_booking
from workers.erasures import kept_erasures

# Records of the load, and how many a second.
EVENTS: Final = 900
RATE: Final = 300.0
EVERYTHING: Final = 1 << 40


@pytest.fixture
def engine(scenario: Scenario) -> Iterator[sa.Engine]:
    """Straight to the scenario's database."""
    made = create_engine(DatabaseSettings.from_environment(scenario.environ), name="faults")
    yield made
    made.dispose()


@pytest.mark.parametrize("place", ERASING)
def test_killed_in_the_midst_of_an_erasure(
    scenario: Scenario, engine: sa.Engine, place: str
) -> None:
    """Before COMMIT the trip is whole, behind it nothing is left; others are told once."""
    trip = ended(engine)
    server = scenario.start_server([f"{place}:1"])
    token = owner(server, trip)
    path = f"{API}/{trip.booking_id}"
    with suppress(OSError):  # it died before it could answer
        ask(server, "DELETE", path, None, token)
    wait_until(lambda: server.outages == 1, "killed", 60)
    wait_until(server.is_ready, "ready again", 60)
    if place == "after an erasure's COMMIT":
        assert server.asks(path, token)[0] == 404
    else:
        status, answer = server.asks(path, token)
        assert (status, len(answer["data"]["waypoints"])) == (200, 6)
        assert ask(server, "DELETE", path, None, token)[0] == 204
    assert remaining(engine, trip) == []
    settings = KafkaSettings.from_environment(scenario.environ)
    wait_until(lambda: rows.count(scenario.environ, "outbox") == 0, "told to others")
    assert len(kept_erasures(settings)) == 1
    assert server.statuses == [-signal.SIGKILL]


def test_trips_are_erased_while_their_events_are_stored_and_no_replay_brings_them_back(
    scenario: Scenario, engine: sa.Engine
) -> None:
    load = scenario.declare(EVENTS)
    scenario.start_server()
    brokers = scenario.environ["KAFKA_BROKERS"]
    scenario.sender = Sender(brokers, scenario.prefix, load.records, RATE).start()
    scenario.stack.callback(scenario.sender.close)
    scenario.drain()
    before = rows.read(scenario.environ)
    over = sorted(b for b, track in before.tracks.items() if track.status != "active")
    chosen = [UUID(each) for each in over[::2]]
    assert len(chosen) > 2

    begin_again(scenario)
    for booking_id in chosen:  # beside ingest, which stores what it has of them once more
        erase(engine, booking_id)
    scenario.drain()
    same_without(scenario, before, chosen)

    begin_again(scenario)
    scenario.drain()
    same_without(scenario, before, chosen)
    assert scenario.server.metric("tracking_events_total", outcome="erased") > len(chosen)
    assert "Traceback" not in scenario.log.read_text()


def begin_again(scenario: Scenario) -> None:
    """Everything that Kafka has is read once more."""
    scenario.stop_server(scenario.server)
    wait_until(lambda: not scenario.member(), "nobody is in the group", 60)
    assert scenario.read_again(EVERYTHING) > 0
    scenario.start_server()


def erase(engine: sa.Engine, booking_id: UUID) -> None:
    """Ingest may have the lock for a while."""

    def is_erased() -> bool:
        try:
            return erase_booking(engine, booking_id).erased_at is not None
        except DatabaseUnavailable:
            return False

    wait_until(is_erased, "erased", 30)


def same_without(scenario: Scenario, before: rows.Tables, erased: list[UUID]) -> None:
    """Nothing of those, and all of the others as it was."""
    now, gone = rows.read(scenario.environ), {str(each) for each in erased}
    assert {b: t for b, t in before.tracks.items() if b not in gone} == now.tracks
    kept = [row for row in before.waypoints if row.booking_id not in gone]
    assert sorted(kept) == sorted(now.waypoints)
    facts = {fact for fact in before.facts if fact[0] not in gone}
    assert facts == set(now.facts)
    assert now.parked <= {row for row in before.parked if row[1] not in gone}
