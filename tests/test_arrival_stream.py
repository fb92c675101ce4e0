"""Arrivals and ETAs as viewers are told of them: a real server, `tracking.v1`, links and REST."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.conftest import SETTINGS
from tests.osrm import Osrm, found
from tests.running import (
    Platform,
    Server,
    Trip,
    fresh_database,
    running_server,
    wait_until,
)
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
    """A database that knows how long forty ways took: 0.08 to 0.12 s for each metre, and 1.5 to 1.9
    times what a router said.
    """
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=3)
        with transaction(engine) as cursor:
            for phase in ("to_pickup", "to_dropoff"):
                for band, metres in enumerate((100.0, *(limit + 10 for limit in BANDS_M))):
                    for number in range(40):
                        cursor.execute(
                            "INSERT INTO eta_samples (phase, band, metres, seconds, day,"
                            " router_seconds, router_took_seconds)"
                            " VALUES (%s, %s, %s, %s, '2026-01-01', 100, %s)",
                            (phase, band, metres, metres * (0.08 + number / 1000), 150 + number),
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


@pytest.mark.gen_test
async def test_a_router_is_asked_for_who_is_watched_and_no_log_says_where_he_is(
    engine: sa.Engine, tmp_path: Path
) -> None:
    nobody_watches = await asyncio.to_thread(on_the_way, engine)
    trip = await asyncio.to_thread(on_the_way, engine)
    environ, log = engine.environment, tmp_path / "server.log"  # type: ignore[attr-defined]
    settings = {**SETTINGS, "LOG_LEVEL": "debug"}
    with Osrm() as osrm, running_server(
        environ, log, ETA_ROUTER_URL=osrm.url, **settings
    ) as server:  # fmt: skip
        osrm.answers(found(100.0))  # what others take would be told by the distance as 69 s
        client = await Client.join(server, trip.booking_id, owner(server, trip))
        eta = (await client.next_of("welcome"))["eta"]
        while eta is None or eta["method"] != "router":
            eta = (await client.next_of("eta"))["eta"]
        after = [
            datetime.fromisoformat(eta[name]).timestamp() - trip.at(120).timestamp()
            for name in ("earliest", "arrives_at", "latest")
        ]
        assert after == pytest.approx([100 * r for r in (1.53, 1.69, 1.86)], abs=1.1)
        _, body, _ = server.get(f"/api/v1/tracking/{trip.booking_id}", owner(server, trip))
        assert body["data"]["eta"] == eta
        _, body, _ = server.get(
            f"/api/v1/tracking/{nobody_watches.booking_id}", owner(server, nobody_watches)
        )
        assert body["data"]["eta"]["method"] == "distance"
        await wait_until_kept(engine, trip)
        ((start, end),) = osrm.places()
        assert start == pytest.approx(place(Spot(-700, 0)), abs=1e-6)
        assert end == pytest.approx(place(PICKUP), abs=1e-6)
        client.socket.close()
    said = log.read_text()
    for longitude, latitude in (start, end):
        assert f"{longitude:.4f}" not in said
        assert f"{latitude:.4f}" not in said


async def wait_until_kept(engine: sa.Engine, trip: Trip) -> None:
    """The answer, for the trip's sample."""

    def is_kept() -> bool:
        with transaction(engine) as cursor:
            cursor.execute(
                "SELECT a.phase, band, round(metres), seconds FROM eta_answers a"
                " JOIN tracks ON tracks.id = track_id WHERE booking_id = %s", (trip.booking_id,)
            )  # fmt: skip
            return cursor.fetchall() == [("to_pickup", 2, 700, 100.0)]

    await asyncio.to_thread(wait_until, is_kept, "the answer is kept")
