"""Arrivals and ETAs as viewers are told of them: a real server, `tracking.v1`, links and REST."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.conftest import SETTINGS
from tests.running import Platform, Server, Trip, fresh_database, running_server
from tests.sharing import SharedClient, share
from tests.simulated import Spot
from tests.test_arriving import PICKUP, accepted, place
from tests.test_asyncapi import check, schema_of
from tests.test_fleet import Client as FleetClient
from tests.test_protocol import Client, owner
from tests.test_store_ingest import update
from tracking.domain.eta import BANDS_M
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.statements import transaction
from tracking.wire.fleet_protocol import milliseconds


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """A database that knows how long forty ways took: 0.08 to 0.12 s for each metre."""
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=3)
        with transaction(engine) as cursor:
            for phase in ("to_pickup", "to_dropoff"):
                for band, metres in enumerate((100.0, *(limit + 10 for limit in BANDS_M))):
                    for number in range(40):
                        cursor.execute(
                            "INSERT INTO eta_samples (phase, band, metres, seconds, day)"
                            " VALUES (%s, %s, %s, %s, '2026-01-01')",
                            (phase, band, metres, metres * (0.08 + number / 1000)),
                        )
        engine.environment = own  # type: ignore[attr-defined]
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def server(engine: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log: Path = tmp_path_factory.mktemp("arrivals") / "server.log"
    with running_server(engine.environment, log, **SETTINGS) as server:  # type: ignore[attr-defined]
        yield server


@pytest.fixture(scope="module")
def platform(server: Server) -> Iterator[Platform]:
    platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
    yield platform
    platform.close()


def on_the_way(engine: sa.Engine) -> Trip:
    """700 m from the pickup, and its last report has just come."""
    now = datetime.now(UTC)
    trip = Trip(now - timedelta(seconds=200))
    reports = []
    for second in range(0, 120, 5):
        longitude, latitude = place(Spot(-3_000 + 20 * second, 0))
        reports.append(update(trip, second, longitude=longitude, latitude=latitude))
    longitude, latitude = place(Spot(-700, 0))
    newest = {"longitude": longitude, "latitude": latitude, "received_at": now}
    store_batch(engine, accepted(trip))
    store_batch(engine, [*reports, update(trip, 120, **newest)])
    return trip


def wait_there(platform: Platform, trip: Trip) -> None:
    longitude, latitude = place(PICKUP)
    for second in (*range(150, 190, 5), 190):
        platform.update(trip, second, longitude=longitude, latitude=latitude)


@pytest.mark.gen_test
async def test_viewers_are_told_when_it_comes_and_that_it_has_come(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(on_the_way, engine)
    client = await Client.join(server, trip.booking_id, owner(server, trip))
    link = share(server, trip)
    friend = await SharedClient.look(server, link["share_token"])
    welcome = await client.next_of("welcome")
    told = welcome if welcome["eta"] else await client.next_of("eta")
    newest = trip.at(120).timestamp()
    seconds = [datetime.fromisoformat(told["eta"][name]).timestamp() - newest
               for name in ("earliest", "arrives_at", "latest")]  # fmt: skip
    assert seconds == pytest.approx([700 * r for r in (0.083, 0.099, 0.116)], abs=2)
    assert (told["eta"]["method"], told["eta"]["samples"]) == ("distance", 40)
    status, body, headers = server.get(f"/api/v1/tracking/{trip.booking_id}", owner(server, trip))
    assert status == 200
    assert body["data"]["eta"] == told["eta"]
    fleet = await FleetClient.joined(server)
    assert fleet.rows[str(trip.booking_id)]["arrival"] in (None, "approaching")
    wait_there(platform, trip)
    viewers = (client, friend)
    for viewer in viewers:
        while (await viewer.next_of("arrival"))["arrivals"]["pickup"]["state"] != "arrived":
            pass
        while (await viewer.next_of("eta"))["eta_reason"] != "arrived":
            pass
        for message in viewer.told:
            check(message, schema_of(message))
    (last,) = [m for m in client.told if m["type"] == "arrival"][-1:]
    _, body, after = server.get(f"/api/v1/tracking/{trip.booking_id}", owner(server, trip))
    assert body["data"]["arrivals"] == last["arrivals"]
    assert (body["data"]["eta"], body["data"]["eta_reason"]) == (None, "arrived")
    assert headers["ETag"] != after["ETag"]
    late = await Client.join(server, trip.booking_id, owner(server, trip))
    assert (await late.next_of("welcome"))["arrivals"] == last["arrivals"]
    row = await fleet.row_of(trip, arrival="arrived")
    arrived_at = datetime.fromisoformat(last["arrivals"]["pickup"]["arrived_at"])
    assert row["arrival_at"] == milliseconds(arrived_at)
    others = await FleetClient.joined(server)
    assert others.rows[str(trip.booking_id)]["arrival"] == "arrived"
    admin = server.token(uuid4(), "admin")
    record = server.get(f"/api/v1/ops/trips/{trip.booking_id}", admin)[1]["data"]
    assert record["arrivals"] == last["arrivals"]
    for each in (client, friend, late):
        each.socket.close()
    fleet.cut()
    others.cut()
