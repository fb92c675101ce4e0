"""What is done with routes: settling, retention and exports are killed on their way."""

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
import sqlalchemy as sa

from faults import rows
from faults.broker import Tail
from faults.launcher import RETENTION, SETTLING
from faults.scenario import Scenario
from faults.server import SupervisedServer
from tests.running import Trip, wait_until
from tests.served import API, owner
from tests.test_retention import GOES, OLD, over
from tests.test_store_ingest import accepted, update
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks
from tracking.store.outbox.summarized import TOLD_WITHIN_DAYS

# Some megabytes as CSV, more than sockets hold.
LONG: Final = 60_000
AT_ONCE: Final = 20_000
# Of a trip's metadata: which row it is, and when it was written.
WRITTEN: Final = ("id", "updated_at", "route_sha256_at")


@pytest.fixture
def engine(scenario: Scenario) -> Iterator[sa.Engine]:
    """Straight to the scenario's database."""
    made = create_engine(DatabaseSettings.from_environment(scenario.environ), name="faults")
    yield made
    made.dispose()


@pytest.mark.parametrize("place", SETTLING)
def test_killed_while_trips_are_settled(scenario: Scenario, engine: sa.Engine, place: str) -> None:
    """What is stored of each trip that is over is what one computes who was never killed."""
    scenario.play(8, [f"{place}:{n}" for n in (3, 1)])
    scenario.drain()
    wait_until(lambda: scenario.server.outages == 2, "killed twice", 60)
    wait_until(lambda: not waiting_tracks(engine, 1), "all settled", 60)
    settled = metadata(engine)
    assert len(settled) > 2
    with engine.begin() as database:
        database.execute(sa.text("DELETE FROM route_metadata"))
    for track_id in settled:
        assert update_metadata(engine, track_id) is not None
    assert metadata(engine) == settled
    assert scenario.server.statuses == [-signal.SIGKILL] * 2
    scenario.prove()
    summaries_were_told(scenario, engine)


def summaries_were_told(scenario: Scenario, engine: sa.Engine) -> None:
    """Each event once, however often it was sent, and each names the one before it."""
    tail = Tail(scenario.environ["KAFKA_BROKERS"], [f"{scenario.prefix}.tracking.events"])
    try:
        events = [json.loads(record.value) for record in tail.catch_up()]
    finally:
        tail.close()
    with engine.connect() as database:
        found = database.execute(
            sa.text("SELECT booking_id::text, summarized_id::text,"
                    " completed_at > now() - make_interval(days => :days)"
                    " FROM tracks WHERE status = 'completed'"),
            {"days": TOLD_WITHIN_DAYS},
        ).all()  # fmt: skip
    assert any(is_new for *_, is_new in found)
    for booking_id, last, is_new in found:
        said = [e for e in events if e["data"]["booking_id"] == booking_id]
        told = {e["id"]: e for e in said if e["type"] == "tracking.summarized"}
        if not is_new:
            assert not told
            continue
        assert [e["data"]["replaces"] for e in told.values()] == [None, *list(told)[:-1]]
        assert list(told)[-1] == last
        types = [e["type"] for e in said]
        assert types.index("tracking.completed") < types.index("tracking.summarized")


def metadata(engine: sa.Engine) -> dict[UUID, dict[str, Any]]:
    """All that is kept of each trip that is over, without when it was written."""
    with engine.connect() as database:
        found = database.execute(sa.text("SELECT * FROM route_metadata")).mappings()
        return {
            row["track_id"]: {k: v for k, v in row.items() if k not in WRITTEN} for row in found
        }


@pytest.mark.parametrize("place", RETENTION)
def test_killed_while_old_routes_go(scenario: Scenario, engine: sa.Engine, place: str) -> None:
    trips = [over(engine, OLD + timedelta(days=day)) for day in (3, 4)]
    scenario.start_server([f"{place}:1"], ready=False, RETENTION_DAYS="30")
    wait_until(lambda: scenario.server.outages == 1, "killed", 60)

    def is_gone() -> bool:
        with engine.connect() as database:
            return database.scalar(sa.text("SELECT to_regclass(:name)"), {"name": GOES}) is None

    wait_until(is_gone, "the month went at the next start", 60)
    scenario.server.wait_ready()
    for trip in trips:
        path = f"{API}/{trip.booking_id}"
        status, answer = scenario.server.asks(path, owner(scenario.server, trip))
        assert status == 200
        assert answer["data"]["route_expired_at"] is not None
        assert answer["data"]["total_distance_km"] > 0
    assert rows.count(scenario.environ, "waypoints") == 0


def test_killed_while_an_export_leaves(scenario: Scenario, engine: sa.Engine) -> None:
    """Who reads it sees that it is not whole; nothing of it is left in PostgreSQL."""
    trip = Trip(datetime.now(UTC) - timedelta(days=1))
    store_batch(engine, [accepted(trip)])
    for first in range(0, LONG, AT_ONCE):
        store_batch(engine, [update(trip, n / 10) for n in range(first, first + AT_ONCE)])
    server = scenario.start_server()
    with asked(server, trip) as answer:
        assert answer.read(1000).startswith(b"seq,")
        server.send_signal(signal.SIGKILL)
        wait_until(lambda: server.outages == 1, "killed")
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer.read()
    wait_until(server.is_ready, "ready again", 60)
    wait_until(lambda: not copies(engine), "nothing is read for it any more")
    with asked(server, trip) as answer:
        assert answer.read().count(b"\r\n") == LONG + 1


@contextmanager
def asked(server: SupervisedServer, trip: Trip) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(server.address, server.port, timeout=60)
    headers = {"Authorization": f"Bearer {owner(server, trip)}"}
    connection.request("GET", f"{API}/{trip.booking_id}/export.csv", headers=headers)
    answer = connection.getresponse()
    try:
        assert answer.status == 200
        yield answer
    finally:
        answer.close()
        connection.close()


def copies(engine: sa.Engine) -> int:
    """Statements of the service that are on their way."""
    with engine.connect() as database:
        found = database.scalar(
            sa.text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
                    " AND datname = current_database() AND query LIKE 'COPY%'")
        )  # fmt: skip
    return int(found or 0)
