"""Processes with roles of their own: who stores tells who serves, and nobody misses anything."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from confluent_kafka.admin import AdminClient
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.running import Platform, Server, Trip, connect, running_server, stamp, wait_until
from tests.simulated import Spot
from tests.test_arriving import PICKUP, place
from tracking.domain.events import LocationUpdate
from tracking.store.ingest.batch import store_batch
from tracking.wire.fleet_protocol import COLUMNS

API = "/api/v1/tracking"


class Company:
    """Processes of several roles, on the same topics and the same database."""

    def __init__(self, stack: ExitStack, environ: dict[str, str], folder: Path) -> None:
        self._stack, self._environ, self._folder = stack, environ, folder
        self.prefix = f"roles-{uuid4().hex[:8]}"
        self.platform = Platform(environ["KAFKA_BROKERS"], self.prefix)
        stack.callback(self.platform.close)
        self._admin = AdminClient({"bootstrap.servers": environ["KAFKA_BROKERS"]})

    def start(self, role: str, **settings: str) -> Server:
        log = self._folder / f"{role}-{uuid4().hex[:4]}.log"
        own = {"KAFKA_TOPIC_PREFIX": self.prefix, "KAFKA_GROUP_ID": self.prefix,
               "RELAY_PARTITIONS": "4", "UNKNOWN_BOOKING_GRACE": "0", **settings}  # fmt: skip
        server = running_server(self._environ, log, ("server.py", "--role", role), **own)
        return self._stack.enter_context(server)

    async def watch(self, server: Server, trip: Trip) -> "Viewer":
        """A viewer of `tracking.v1`, closed at the end."""
        token = server.token(trip.owner_id, "owner")
        protocols = f"tracking.v1, bearer.{token}"
        socket = await server.watch(trip.booking_id, None, **{"Sec-WebSocket-Protocol": protocols})
        self._stack.callback(socket.close)
        return Viewer(socket)

    async def watch_fleet(self, server: Server, token: str) -> WebSocketClientConnection:
        headers = {"Sec-WebSocket-Protocol": f"fleet.v1, bearer.{token}"}
        url = f"ws://127.0.0.1:{server.port}/ws/fleet"
        socket = await websocket_connect(HTTPRequest(url, headers=headers))
        self._stack.callback(socket.close)
        return socket

    def delete_relay_topic(self) -> None:
        topic = f"{self.prefix}.tracking.live"
        self._admin.delete_topics([topic])[topic].result(30)

    def is_there(self, trip: Trip) -> bool:
        """An arrival is in the table."""
        with connect(self._environ) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT FROM arrivals a JOIN tracks t ON t.id = a.track_id"
                " WHERE t.booking_id = %s AND a.state = 'arrived'",
                (str(trip.booking_id),),
            )
            return cursor.rowcount > 0

    def head(self, trip: Trip) -> int:
        """What is stored."""
        with connect(self._environ) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT head_seq FROM tracks WHERE booking_id = %s", (str(trip.booking_id),)
            )
            row = cursor.fetchone()
        return 0 if row is None else int(row[0])


async def row_of(fleet: WebSocketClientConnection, trip: Trip, arrival: str) -> None:
    """Until the stream of all trips says so of this one."""
    while True:
        text = await fleet.read_message()
        assert text is not None, f"closed with {fleet.close_code}"
        for values in json.loads(text).get("rows", ()):
            row = dict(zip(COLUMNS, values, strict=True))
            if (row["booking_id"], row["arrival"]) == (str(trip.booking_id), arrival):
                return


def spots(platform: Platform, trip: Trip, *metres: tuple[float, float]) -> None:
    """Waypoints at these seconds, so many metres west of the pickup."""
    for second, west_m in metres:
        longitude, latitude = place(Spot(-west_m, 0))
        platform.update(trip, second, longitude=longitude, latitude=latitude)


class Viewer:
    """Of `tracking.v1`: what it was told, by seq."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket
        self.seqs: list[int] = []
        self.messages: list[dict[str, Any]] = []

    async def told(self, through: int) -> list[int]:
        """Every seq that came, up to this one."""
        while through not in self.seqs:
            await self.next()
        return self.seqs

    async def arrival(self, state: str) -> dict[str, Any]:
        """Of the pickup, once it is so."""
        while True:
            message = await self.next()
            pickup = (message.get("arrivals") or {}).get("pickup")
            if pickup is not None and pickup["state"] == state:
                return message

    async def next(self) -> dict[str, Any]:
        text = await self._socket.read_message()
        assert text is not None, f"closed with {self._socket.close_code}"
        message: dict[str, Any] = json.loads(text)
        self.messages.append(message)
        if message["type"] == "location_update":
            self.seqs.append(message["seq"])
        elif message["type"] == "backfill":
            self.seqs += [point["seq"] for point in message["points"]]
        return message


@pytest.fixture
def company(io_loop: object, database: dict[str, str], tmp_path: Path) -> Iterator[Company]:
    with ExitStack() as stack:
        yield Company(stack, database, tmp_path)


def known(server: Server, trip: Trip) -> None:
    token = server.token(trip.owner_id, "owner")
    path = f"{API}/{trip.booking_id}"
    wait_until(lambda: server.get(path, token)[0] == 200, "known")


@pytest.mark.gen_test
async def test_what_one_stores_the_viewers_of_every_other_see(company: Company) -> None:
    company.start("ingest")
    servers = [company.start("live"), company.start("live")]
    trip = Trip()
    company.platform.accept(trip)
    company.platform.update(trip, 1)
    known(servers[0], trip)
    viewers = [await company.watch(server, trip) for server in servers for _ in range(2)]
    for second in (2, 3, 4):
        company.platform.update(trip, second)
    for viewer in viewers:
        assert await viewer.told(4) == [1, 2, 3, 4]
    company.platform.deliver(trip, trip.at(5))
    for viewer in viewers:
        while viewer.messages[-1].get("status") != "completed":
            await viewer.next()


@pytest.mark.gen_test
async def test_who_reads_its_rooms_partitions_only_misses_nothing(company: Company) -> None:
    company.start("ingest")
    servers = [company.start("live", LIVE_READS="rooms") for _ in range(2)]
    trips = [Trip() for _ in range(4)]
    for trip in trips:
        company.platform.accept(trip)
        company.platform.update(trip, 1)
    known(servers[0], trips[-1])
    read = [server.metric("tracking_relay_partitions_read") for server in servers]
    assert read == [1, 1]
    viewers = [await company.watch(servers[0], trip) for trip in trips]
    for second in (2, 3, 4):
        for trip in trips:
            company.platform.update(trip, second)
    for viewer in viewers:
        assert await viewer.told(4) == [1, 2, 3, 4]
    shards = {trip.booking_id.bytes[-1] % 4 for trip in trips}
    read = [server.metric("tracking_relay_partitions_read") for server in servers]
    assert read[0] in (len(shards), len(shards) + 1)
    assert read[1] == 1
    fleet = await company.watch_fleet(servers[1], servers[1].token(uuid4(), "admin"))
    await fleet.read_message()
    assert servers[1].metric("tracking_relay_partitions_read") == 4
    assert [server.metric("tracking_gaps_total") for server in servers] == [0, 0]


@pytest.mark.gen_test
async def test_a_relay_topic_that_is_deleted_costs_nobody_a_waypoint(company: Company) -> None:
    ingest, live = company.start("ingest"), company.start("live")
    trip = Trip()
    company.platform.accept(trip)
    company.platform.update(trip, 1)
    known(live, trip)
    viewer = await company.watch(live, trip)
    company.platform.update(trip, 2)
    await viewer.told(2)
    company.delete_relay_topic()
    for second in range(3, 9):
        company.platform.update(trip, second)
    wait_until(lambda: company.head(trip) == 8, "stored")
    assert await viewer.told(8) == list(range(1, 9))
    company.platform.update(trip, 9)
    assert await viewer.told(9) == list(range(1, 10))
    assert ingest.get("/readiness")[0] == 200


@pytest.mark.gen_test
async def test_killed_between_commit_and_sending_the_next_start_tells(
    company: Company, engine: sa.Engine
) -> None:
    """Without a new event: what was committed comes again, and it is nothing new to the table."""
    ingest, live = company.start("ingest"), company.start("live")
    trip = Trip()
    company.platform.accept(trip)
    company.platform.update(trip, 1)
    known(live, trip)
    viewer = await company.watch(live, trip)
    await viewer.told(1)
    ingest.stop(signal.SIGKILL)
    at = trip.at(2)
    ids = (trip.runner_id, trip.booking_id)
    store_batch(engine, [LocationUpdate(*ids, 106.8, -6.2, 1.0, 1.0, at, at, at)])  # told nobody
    assert company.head(trip) == 2
    company.start("ingest")
    assert await viewer.told(2) == [1, 2]


@pytest.mark.gen_test
async def test_a_live_process_that_stood_still_has_missed_nothing(company: Company) -> None:
    company.start("ingest")
    live = company.start("live")
    trip = Trip()
    company.platform.accept(trip)
    company.platform.update(trip, 1)
    known(live, trip)
    viewer = await company.watch(live, trip)
    await viewer.told(1)
    assert live.process is not None
    live.process.send_signal(signal.SIGSTOP)
    for second in range(2, 30):
        company.platform.update(trip, second)
    wait_until(lambda: company.head(trip) == 29, "stored")
    company.delete_relay_topic()
    live.process.send_signal(signal.SIGCONT)
    assert await viewer.told(29) == list(range(1, 30))


@pytest.mark.gen_test
async def test_two_that_store_and_two_that_serve(company: Company) -> None:
    """With random record keys both store waypoints of the same trips."""
    ingests = [company.start("ingest"), company.start("ingest")]
    servers = [company.start("live"), company.start("live")]
    trips = [Trip() for _ in range(5)]
    for trip in trips:
        company.platform.accept(trip)
        company.platform.update(trip, 0)
    for trip in trips:
        known(servers[0], trip)
    viewers = [(await company.watch(server, trip), trip) for server in servers for trip in trips]
    for second in range(1, 20):
        for trip in trips:
            company.platform.update(trip, second)
    for viewer, trip in viewers:
        seqs = await viewer.told(20)
        assert sorted(seqs) == list(range(1, 21)), trip
    assert all(server.get("/readiness")[0] == 200 for server in [*ingests, *servers])
    # Each of them owns a part of the partitions, and all together know how far they are.
    for server in servers:
        await asyncio.to_thread(server.wait_measured)


def bound_for_the_pickup(company: Company) -> Trip:
    """Ten minutes ago, from two kilometres away; a kilometre is left."""
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10))
    longitude, latitude = place(PICKUP)
    company.platform.send(
        "booking.requested", **trip.identity(), pickup_lat=latitude, pickup_lng=longitude,
        occurred_at=stamp(trip.at(-5)),
    )  # fmt: skip
    company.platform.accept(trip)
    spots(company.platform, trip, *((second, 2_000 - 10 * second) for second in range(0, 100, 5)))
    return trip


WAIT = [(second, 0.0) for second in range(205, 255, 5)]


@pytest.mark.gen_test
async def test_arrivals_are_told_where_others_than_those_who_store_serve(company: Company) -> None:
    company.start("ingest")
    live = company.start("live")
    trip = bound_for_the_pickup(company)
    known(live, trip)
    fleet = await company.watch_fleet(live, live.token(uuid4(), "admin"))
    viewer = await company.watch(live, trip)
    spots(company.platform, trip, *((second, 2_000 - 10 * second) for second in range(100, 200, 5)))
    assert (await viewer.arrival("approaching"))["type"] == "arrival"
    await row_of(fleet, trip, "approaching")
    spots(company.platform, trip, *WAIT)
    told = await viewer.arrival("arrived")
    await row_of(fleet, trip, "arrived")
    late = await company.watch(live, trip)
    assert (await late.next())["arrivals"] == told["arrivals"]


@pytest.mark.gen_test
async def test_an_arrival_whose_bundle_was_lost_is_told_from_the_table(company: Company) -> None:
    """Nothing comes behind it: both viewers hear of it since somebody asks the table."""
    company.start("ingest")
    live = company.start("live")
    trip = bound_for_the_pickup(company)
    known(live, trip)
    fleet = await company.watch_fleet(live, live.token(uuid4(), "admin"))
    viewer = await company.watch(live, trip)
    await viewer.next()
    assert live.process is not None
    live.process.send_signal(signal.SIGSTOP)
    spots(company.platform, trip, *WAIT)
    wait_until(lambda: company.is_there(trip), "noted")
    company.delete_relay_topic()
    live.process.send_signal(signal.SIGCONT)
    told = await viewer.arrival("arrived")
    await row_of(fleet, trip, "arrived")
    path, token = f"{API}/{trip.booking_id}", live.token(trip.owner_id, "owner")
    assert live.get(path, token)[1]["data"]["arrivals"] == told["arrivals"]


@pytest.mark.gen_test
async def test_without_ingest_viewers_are_told_that_we_are_behind(company: Company) -> None:
    ingest, live = company.start("ingest"), company.start("live")
    trip = Trip()
    company.platform.accept(trip)
    known(live, trip)
    ingest.stop(signal.SIGKILL)

    def checks() -> dict[str, str]:
        found: dict[str, str] = live.get("/readiness")[1]["checks"]
        return found

    wait_until(lambda: checks()["ingest"] != "ok", "not ready")
    assert checks()["ingest"].startswith("no process with --role ingest was heard for ")
    assert live.metric("tracking_ingest_processes") == 0
    company.start("ingest")
    wait_until(lambda: live.get("/readiness")[0] == 200, "ready")
    assert live.metric("tracking_ingest_processes") == 1


def test_each_role_has_only_what_it_needs(company: Company, database: dict[str, str]) -> None:
    """No key for tokens, no consumer, few connections."""
    ingest = company.start("ingest", JWT_SECRET="")
    live = company.start("live", DB_POOL_SIZE="1")
    assert ingest.get(f"{API}/{uuid4()}")[0] == 404
    assert ingest.get("/ws/fleet")[0] == 404
    assert ingest.get("/health")[0] == ingest.get("/metrics")[0] == 200
    assert set(ingest.get("/readiness")[1]["checks"]) == {
        "database", "schema", "kafka", "consumer", "ingest", "dead_letters", "outgoing", "relay"
    }  # fmt: skip
    assert set(live.get("/readiness")[1]["checks"]) == {
        "database", "schema", "relay", "ingest", "keys"
    }  # fmt: skip
    cpu = 'tracking_thread_cpu_seconds_total{thread="consumer"}'
    assert cpu in ingest.get("/metrics")[1].decode()
    assert cpu not in live.get("/metrics")[1].decode()


@pytest.mark.gen_test
async def test_the_fleet_sees_what_others_store(company: Company) -> None:
    company.start("ingest")
    live = company.start("live")
    trip = Trip()
    token = live.token(uuid4(), "admin")
    socket = await company.watch_fleet(live, token)
    company.platform.accept(trip)
    company.platform.update(trip, 1)
    found = ""
    while str(trip.booking_id) not in found:
        text = await socket.read_message()
        assert isinstance(text, str)
        found = text
