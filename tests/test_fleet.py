"""`/ws/fleet`: all active trips on one stream, gap-free, over real sockets."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from handlers.access_log import AccessLog
from handlers.websocket.fleet_viewer import NOTE_S, FleetViewer
from tests.raw_sockets import TEXT, RawSocket, frame, handshake
from tests.running import Platform, Server, Trip, fresh_database, running_server, wait_until
from tests.test_asyncapi import FLEET_MESSAGES, check
from tests.test_fleet_table import change, moved
from tests.viewing import Seat, Wire, services_of
from tracking.domain.access import Principal
from tracking.domain.changes import BookingChanges
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.domain.legs import standing
from tracking.domain.tracks import ActiveTrip
from tracking.errors import DatabaseUnavailable, Overloaded
from tracking.live import fleet as fleet_module
from tracking.live.fleet import Fleet, tell_fleet
from tracking.live.rooms import Rooms
from tracking.live.send_queue import PAGE_LIMIT_S
from tracking.metrics import Metrics
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.read.active_trips import active_trips
from tracking.wire.fleet_protocol import COLUMNS, SUBPROTOCOL, milliseconds

WAIT_S = 50
STOCK = 1500
Place = tuple[Server, Platform, sa.Engine]


@contextmanager
def served(environ: dict[str, str], log: Path, trips: int, age_s: float) -> Iterator[Place]:
    """A server that finds so many trips in its database."""
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=2)
        store_trips(engine, trips, age_s)
        with running_server(own, log, UNKNOWN_BOOKING_GRACE="0") as server:
            environ = server.environ
            platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
            yield server, platform, engine
            platform.close()
        engine.dispose()


@pytest.fixture(scope="module")
def place(environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Its trips have been silent for so long that time changes them no more."""
    with served(environ, tmp_path_factory.mktemp("fleet") / "server.log", STOCK, 3000) as place:
        yield place


class Client:
    """Speaks fleet.v1: the rows as it knows them, and everything that it was told."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.told: list[dict[str, Any]] = []
        self.sent: list[tuple[str, int]] = []  # booking and seq of each row that came
        self.columns: list[str] = []
        self.version = 0
        self.is_complete = False
        self.socket: WebSocketClientConnection | None = None

    @classmethod
    async def join(cls, server: Server, token: str | None = None, **query: object) -> "Client":
        client = cls()
        if token is None:
            token = server.token(uuid4(), "admin")
        parts = [f"{name}={value}" for name, value in {**query, "token": token}.items()]
        url = f"ws://127.0.0.1:{server.port}/ws/fleet?{'&'.join(parts)}"
        client.socket = await websocket_connect(
            HTTPRequest(url), subprotocols=[SUBPROTOCOL], ping_interval=0
        )
        assert client.socket.selected_subprotocol == SUBPROTOCOL
        return client

    @classmethod
    async def joined(cls, server: Server, **query: object) -> "Client":
        """Until it has everything."""
        client = await cls.join(server, None, **query)
        while not client.is_complete:
            assert await client.next() is not None
        return client

    async def next(self) -> dict[str, Any] | None:
        """None when the socket was closed."""
        assert self.socket is not None
        text = await asyncio.wait_for(self.socket.read_message(), WAIT_S)
        return None if text is None else self.hear(text)

    def hear(self, text: str | bytes) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(text)
        self.told.append(message)
        if message["type"] in FLEET_MESSAGES:
            check(message, f"fleet_{message['type']}")
        if message["type"] == "welcome":
            assert len(self.told) == 1
            self.columns = message["columns"]
        for values in message.get("rows", ()):
            row = dict(zip(self.columns, values, strict=True))
            self.rows[row["booking_id"]] = row
            self.sent.append((row["booking_id"], row["seq"]))
        for booking_id in message.get("removed", ()):
            assert self.rows.pop(booking_id)["status"] != "active"
        if message["type"] == "snapshot" and not message["more"]:
            self.is_complete, self.version = True, self.told[0]["version"]
        if message["type"] == "changes":
            self.is_complete, self.version = True, message["version"]
        return message

    async def row_of(self, trip: Trip, **wanted: object) -> dict[str, Any]:
        """Of a trip, once it is as wanted."""
        while True:
            row = self.rows.get(str(trip.booking_id), {})
            if row and {name: row[name] for name in wanted} == wanted:
                return row
            assert await self.next() is not None, f"closed before {wanted}"

    async def closed(self) -> int | None:
        assert self.socket is not None
        while await self.next() is not None:
            pass
        self.socket.close()
        return self.socket.close_code

    def cut(self) -> None:
        assert self.socket is not None
        self.socket.close()


def expected(trip: ActiveTrip) -> dict[str, Any]:
    """The columns that time does not change."""
    last = trip.last
    return {
        "booking_id": str(trip.booking_id), "booking_number": trip.booking_number,
        "status": "active", "phase": trip.phase, "seq": trip.head_seq,
        "distance_m": trip.distance_mm / 1000, "started_at": milliseconds(trip.started_at),
        "latitude": None if last is None else round(last.latitude, 6),
        "longitude": None if last is None else round(last.longitude, 6),
        "speed_kmh": None if last is None else last.speed_kmh,
        "heading_degrees": None if last is None else last.heading_degrees,
        "recorded_at": None if last is None else milliseconds(last.recorded_at),
        "received_at": None if last is None else milliseconds(last.received_at),
        **arrival(trip),
    }  # fmt: skip


def arrival(trip: ActiveTrip) -> dict[str, Any]:
    said, at = standing(trip.legs[0] if trip.legs else None) or (None, None)
    return {"arrival": said, "arrival_at": None if at is None else milliseconds(at)}


def is_as_the_table(client: Client, engine: sa.Engine) -> None:
    table = {str(trip.booking_id): expected(trip) for trip in active_trips(engine)}
    assert client.rows.keys() == table.keys()
    for booking_id, wanted in table.items():
        row = client.rows[booking_id]
        assert {name: row[name] for name in wanted} == wanted


def store_trips(engine: sa.Engine, count: int, age_s: float = 5.0) -> list[Trip]:
    """Trips in the database whose only report came so long ago."""
    trips, then = [Trip() for _ in range(count)], datetime.now(UTC) - timedelta(seconds=age_s)
    store_batch(engine, [
        BookingEvent(t.booking_id, "accepted", t.start, t.runner_id, t.owner_id) for t in trips
    ])  # fmt: skip
    store_batch(engine, [
        LocationUpdate(
            t.runner_id, t.booking_id, t.update(seconds(t, then))["longitude"], -6.2, None, 90.0,
            then, then, then,
        )
        for t in trips
    ])  # fmt: skip
    return trips


def begun(place: Place, count: int) -> list[Trip]:
    """Accepted through Kafka, stored, each with a position."""
    _, platform, engine = place
    trips = [Trip() for _ in range(count)]
    for trip in trips:
        platform.accept(trip)
        platform.update(trip, seconds(trip))
    ids = [trip.booking_id for trip in trips]
    wait_until(lambda: [t.head_seq for t in active_trips(engine, ids)] == [1] * count, "stored")
    return trips


def seconds(trip: Trip, at: datetime | None = None) -> float:
    return ((at or datetime.now(UTC)) - trip.start).total_seconds()


@pytest.mark.gen_test
async def test_a_trip_is_seen_from_its_start_to_its_end(place: Place) -> None:
    server, platform, engine = place
    client = await Client.joined(server)
    welcome = client.told[0]
    assert (welcome["type"], welcome["recovered"], welcome["heartbeat_s"]) == ("welcome", None, 15)
    is_as_the_table(client, engine)
    trip = Trip()
    platform.accept(trip)
    row = await client.row_of(trip, status="active")
    assert (row["booking_number"], row["phase"], row["latitude"]) == ("BK-1", "to_pickup", None)
    platform.update(trip, seconds(trip) - 1)
    row = await client.row_of(trip, seq=1)
    assert (row["latitude"], row["freshness_state"], row["freshness_reason"]) == (
        -6.2,
        "live",
        None,
    )
    platform.update(trip, seconds(trip))
    await client.row_of(trip, seq=2)
    is_as_the_table(client, engine)
    platform.deliver(trip, datetime.now(UTC))
    while not (message := await client.next() or {}).get("removed"):
        assert message
    assert message["removed"] == [str(trip.booking_id)]
    (final,) = [each for each in message["rows"] if each[0] == str(trip.booking_id)]
    assert final[client.columns.index("status")] == "completed"
    is_as_the_table(client, engine)
    assert len(set(client.sent)) >= 5
    client.cut()


@pytest.mark.gen_test
async def test_changes_while_the_snapshot_is_sent_are_neither_missed_nor_sent_twice(
    place: Place,
) -> None:
    """Its reader waits behind the first bytes until everything has happened."""
    server, platform, engine = place
    trips = await asyncio.to_thread(begun, place, 4)
    token = server.token(uuid4(), "admin")
    other = await Client.joined(server)
    with RawSocket(server, receive_buffer=1 << 15) as raw:
        status = raw.shake(
            handshake(f"/ws/fleet?token={token}", {"Sec-WebSocket-Protocol": SUBPROTOCOL})
        )
        assert status == 101
        platform.deliver(trips[0], datetime.now(UTC))
        for trip in trips[1:]:
            for seq in (2, 3):
                platform.update(trip, seconds(trip))
                await other.row_of(trip, seq=seq)
        last = Trip()
        platform.accept(last)
        await other.row_of(last)
        while str(trips[0].booking_id) in other.rows:
            await other.next()
        client = Client()

        def read() -> None:
            while str(last.booking_id) not in client.rows:
                text = raw.next(TEXT)
                assert text is not None
                client.hear(text)

        await asyncio.to_thread(read)
    is_as_the_table(client, engine)
    assert len(client.sent) == len(set(client.sent))
    assert [m["type"] for m in client.told[:2]] == ["welcome", "snapshot"]
    other.cut()


@pytest.mark.gen_test
async def test_who_comes_back_gets_what_changed_meanwhile(place: Place) -> None:
    server, platform, engine = place
    moved_on, ended, silent = await asyncio.to_thread(begun, place, 3)
    first = await Client.joined(server)
    first.cut()
    wait_until(lambda: server.metric("tracking_fleet_viewers") == 0, "cut")
    platform.update(moved_on, seconds(moved_on))
    platform.deliver(ended, datetime.now(UTC))
    new = Trip()
    platform.accept(new)
    wait_until(lambda: len(active_trips(engine, [new.booking_id])) == 1, "stored")
    wait_until(lambda: not active_trips(engine, [ended.booking_id]), "ended")
    epoch = first.told[0]["epoch"]
    again = await Client.joined(server, epoch=epoch, version=first.version)
    assert again.told[0]["recovered"] is True
    assert again.told[0]["epoch"] == epoch
    again.rows = {**first.rows, **again.rows}
    await again.row_of(moved_on, seq=2)
    await again.row_of(new)
    while str(ended.booking_id) in again.rows:
        if str(ended.booking_id) in [b for m in again.told for b in m.get("removed", ())]:
            del again.rows[str(ended.booking_id)]
        else:
            await again.next()
    is_as_the_table(again, engine)
    assert {m["type"] for m in again.told} <= {"welcome", "changes"}
    assert (str(silent.booking_id), 1) not in again.sent
    # Nothing has changed since: an answer comes all the same.
    last = await Client.joined(server, epoch=epoch, version=again.version)
    assert [m["type"] for m in last.told] == ["welcome", "changes"]
    for client in (again, last):
        client.cut()


@pytest.mark.gen_test
@pytest.mark.parametrize("version", [0, 1 << 53])
async def test_an_epoch_or_version_that_is_unknown_means_the_whole_snapshot(
    place: Place, version: int
) -> None:
    server, _, engine = place
    client = await Client.joined(server)
    epoch = client.told[0]["epoch"] if version else "another"
    again = await Client.joined(server, epoch=epoch, version=version)
    assert again.told[0]["recovered"] is False
    is_as_the_table(again, engine)
    for each in (client, again):
        each.cut()


@pytest.mark.gen_test
async def test_silence_is_told(environ: dict[str, str], tmp_path: Path) -> None:
    with served(environ, tmp_path / "server.log", 1, 0) as (server, platform, engine):
        (read,) = active_trips(engine)
        platform.accept(Trip())
        server.wait_measured()  # until then our own pipeline may be what is silent
        trip = Trip()
        trip.booking_id = read.booking_id
        assert read.last is not None
        trip.runner_id = read.last.runner_id
        client = await Client.joined(server)
        row = await client.row_of(trip, freshness_reason="no_points")
        assert row["freshness_state"] in ("stale", "lost")  # the latter on a slow machine
        platform.update(trip, seconds(trip))
        row = await client.row_of(trip, freshness_state="live")
        assert (row["seq"], row["freshness_reason"]) == (2, None)
        client.cut()


@pytest.mark.gen_test
async def test_another_runner_takes_the_marker_back_to_the_route(place: Place) -> None:
    """Told of late, he takes the first one's waypoints out of it."""
    server, platform, engine = place
    trip, other = Trip(), uuid4()
    platform.accept(trip)
    client = await Client.joined(server)
    for seq, second in enumerate((10, 600), 1):
        platform.update(trip, second)
        await client.row_of(trip, seq=seq)
    platform.accept(trip, trip.at(300), runner_id=str(other))
    row = await client.row_of(trip, recorded_at=milliseconds(trip.at(10)))
    assert row["longitude"] == 106.801
    is_as_the_table(client, engine)
    client.cut()


CODES = {
    "no token": ("", 4501, 401),
    "an owner": ("owner", 4503, 404),
    "a runner": ("runner", 4503, 404),
    "a shop": ("shop", 4503, 404),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("who", list(CODES))
async def test_to_others_it_is_not_there(place: Place, who: str) -> None:
    role, code, status = CODES[who]
    token = place[0].token(uuid4(), role) if role else ""
    client = await Client.join(place[0], token, version="nonsense")
    assert await client.closed() == code
    url = f"ws://127.0.0.1:{place[0].port}/ws/fleet?token={token}"
    with pytest.raises(HTTPClientError) as refused:
        await websocket_connect(HTTPRequest(url))
    assert refused.value.code == status


@pytest.mark.gen_test
@pytest.mark.parametrize("version", ["nonsense", "-1", "1.5", str((1 << 53) + 1)])
async def test_a_version_that_is_none_is_a_bad_request(place: Place, version: str) -> None:
    client = await Client.join(place[0], epoch="e", version=version)
    assert await client.closed() == 4500


@pytest.mark.gen_test
@pytest.mark.parametrize("offered", [None, "tracking.v1", "fleet.v1, tracking.v1"])
async def test_no_other_subprotocol_will_do(place: Place, offered: str | None) -> None:
    token = place[0].token(uuid4(), "admin")
    with RawSocket(place[0]) as raw:
        headers = {"Sec-WebSocket-Protocol": offered}
        status = raw.shake(handshake(f"/ws/fleet?token={token}", headers))
        if offered is None or SUBPROTOCOL not in offered:
            assert status == 400
        else:
            assert (status, raw.end()) == (101, 4500)


@pytest.mark.gen_test
async def test_a_token_is_renewed_by_the_same_admin_only(place: Place) -> None:
    server, user = place[0], uuid4()
    soon = datetime.now(UTC) + timedelta(seconds=20)
    client = await Client.join(server, server.token(user, "admin", exp=soon))
    while (message := await client.next() or {})["type"] != "token_expiring":
        pass
    assert client.socket is not None
    renewed = {"type": "refresh", "token": server.token(user, "admin")}
    await client.socket.write_message(json.dumps(renewed))
    while (answer := await client.next() or {})["type"] != "heartbeat":
        pass
    assert answer["token_expires_at"] > message["token_expires_at"]
    renewed["token"] = server.token(user, "owner")
    await client.socket.write_message(json.dumps(renewed))
    assert await client.closed() == 4501


@pytest.mark.gen_test
async def test_what_the_protocol_does_not_know_is_a_bad_request(place: Place) -> None:
    client = await Client.joined(place[0])
    assert client.socket is not None
    await client.socket.write_message('{"type": "catch_up", "since_seq": 0}')
    assert await client.closed() == 4500


def test_a_viewer_that_answers_no_ping_is_counted_and_let_go(place: Place) -> None:
    server = place[0]
    with RawSocket(server) as raw:
        path = f"/ws/fleet?token={server.token(uuid4(), 'admin')}"
        assert raw.shake(handshake(path, {"Sec-WebSocket-Protocol": SUBPROTOCOL})) == 101
        assert server.metric("tracking_fleet_viewers") == 1
        assert server.metric("tracking_fleet_trips") > 0
        raw.send(frame(0x8, b"\x03\xe8"))
        assert raw.end() == 1000
    wait_until(lambda: server.metric("tracking_fleet_viewers") == 0, "left")


def is_watched(fleet: Fleet) -> bool:
    return fleet.is_watched


class Watched:
    """A fleet of its own, its trips as the test says; viewers on wires."""

    def __init__(self, engine: sa.Engine, trips: int, linger_s: float = 0.0) -> None:
        self.metrics, self.gate = Metrics(), asyncio.Event()
        self.services = services_of(engine, self.gate, Rooms(), self.metrics)
        self.fleet = Fleet(self.metrics, linger_s)
        object.__setattr__(self.services, "fleet", self.fleet)
        self.ids = [uuid4() for _ in range(trips)]
        self.reads = 0

    async def read(self, only: object) -> list[ActiveTrip]:
        self.reads += 1
        now = datetime.now(UTC)
        return [ActiveTrip(each, None, "to_pickup", now, 0, 0, None) for each in self.ids]

    async def join(self, wire: Wire) -> FleetViewer:
        await self.fleet.enter(self.read)
        principal = Principal(uuid4(), "admin", datetime.now(UTC) + timedelta(hours=1))
        seat = Seat(self.services)
        viewer = FleetViewer(seat, principal, wire.send_queue, None, None)
        self.fleet.join(viewer.subscriber)
        viewer.subscriber.begin()
        return viewer

    async def tick(self) -> None:
        await self.fleet.tick(datetime.now(UTC), 0.0)


@pytest.fixture
def wires(io_loop: object) -> Iterator[list[Wire]]:
    made = [Wire(), Wire(small=False)]
    yield made
    for each in made:
        each.close()


@pytest.mark.gen_test
async def test_how_long_somebody_watches_is_noted_every_five_minutes_and_at_the_end(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    watched = Watched(engine, 1)
    log = AccessLog(watched.metrics.accesses, is_kept=True)
    object.__setattr__(watched.services, "access_log", log)
    viewer = await watched.join(wires[0])
    for seconds_ in (1, NOTE_S - 1, NOTE_S + 1, NOTE_S + 2):
        viewer._heard_at = time.monotonic() + seconds_
        viewer.tick(viewer._heard_at)
    (first,) = log.all()
    viewer.leave()
    viewer.leave()
    first, second = log.all()
    assert (first.reader.way, first.reader.reader_id) == (
        "fleet",
        viewer.subscriber.principal.user_id,
    )
    assert first.first_at < first.last_at == second.first_at < second.last_at


@pytest.mark.gen_test
async def test_a_viewer_that_does_not_read_holds_up_nobody_and_ends(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    watched = Watched(engine, 4000)
    stuck, reading = [await watched.join(wire) for wire in wires]
    await wires[1].messages(until=b'"more":false')
    for seq in range(1, 6):
        for each in watched.ids:
            watched.fleet.publish(moved(each, seq))
        await watched.tick()
        (last,) = (await wires[1].messages(until=b'"changes"'))[-1:]
        assert len(last["rows"]) == 4000
    assert len(stuck.subscriber.send_queue._unsent or ()) == 0
    since = stuck.subscriber.send_queue._page_since
    stuck.tick(since + PAGE_LIMIT_S - 1)
    assert not stuck.handler.closed  # type: ignore[attr-defined]
    stuck.tick(since + PAGE_LIMIT_S + 1)
    assert stuck.handler.code() == 4008  # type: ignore[attr-defined]
    assert wires[0].stream.closed()
    assert len(watched.fleet) == 1
    assert not reading.handler.closed  # type: ignore[attr-defined]


@pytest.mark.gen_test
async def test_a_slow_viewer_gets_the_newest_state_of_each_row(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    watched = Watched(engine, 2000)
    await watched.join(wires[0])
    for seq in range(1, 6):
        watched.fleet.publish(moved(watched.ids[0], seq))
        await watched.tick()
    await wires[0].messages(until=b'"more":false')
    watched.fleet.publish(moved(watched.ids[1], 1))
    await watched.tick()
    (message,) = await wires[0].messages(until=b'"changes"')
    found = {row[0]: row[12] for row in message["rows"]}
    assert found == {str(watched.ids[0]): 5, str(watched.ids[1]): 1}


@pytest.mark.gen_test
async def test_it_is_read_once_for_all_and_what_is_published_meanwhile_is_applied(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    watched = Watched(engine, 2)
    may_end, new = asyncio.Event(), uuid4()

    async def read(only: object) -> list[ActiveTrip]:
        found = await watched.read(only)
        await may_end.wait()
        return found

    assert not is_watched(watched.fleet)
    entering = [asyncio.create_task(watched.fleet.enter(read)) for _ in range(2)]
    await asyncio.sleep(0)
    assert is_watched(watched.fleet)
    watched.fleet.publish(moved(watched.ids[0], 1))
    watched.fleet.publish(change(watched.ids[1], "completed", "active"))
    watched.fleet.publish(change(new))
    may_end.set()
    await asyncio.gather(*entering)
    assert watched.reads == 1
    await watched.join(wires[1])
    welcome, snapshot = await wires[1].messages(until=b'"more":false')
    assert {(row[0], row[12]) for row in snapshot["rows"]} == {
        (str(watched.ids[0]), 1), (str(new), 0)
    }  # fmt: skip
    assert welcome["columns"] == [*COLUMNS]


@pytest.mark.gen_test
async def test_a_failed_reading_lets_nobody_in_and_the_next_one_reads_anew(
    engine: sa.Engine,
) -> None:
    watched = Watched(engine, 1)

    async def fail(_: object) -> list[ActiveTrip]:
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        await watched.fleet.enter(fail)
    assert not watched.fleet.is_watched
    await watched.fleet.enter(watched.read)
    assert watched.fleet.trips == 1


@pytest.mark.gen_test
async def test_too_much_while_reading_gives_the_reading_up(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "MOST_UNSEEN", 2)
    watched = Watched(engine, 1)

    async def read(only: object) -> list[ActiveTrip]:
        for seq in range(4):
            watched.fleet.publish(moved(watched.ids[0], seq))
        return await watched.read(only)

    with pytest.raises(Overloaded):
        await watched.fleet.enter(read)
    assert not watched.fleet.is_watched


@pytest.mark.gen_test
async def test_the_last_to_leave_leaves_nothing_behind(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    watched = Watched(engine, 1, linger_s=3600)
    viewers = [await watched.join(wire) for wire in wires]
    await watched.tick()
    viewers[0].leave()
    watched.fleet._linger_s = 0
    await watched.tick()
    assert is_watched(watched.fleet)
    viewers[1].leave()
    watched.fleet._linger_s = 3600
    await watched.tick()
    assert is_watched(watched.fleet)  # who lost the link comes back
    watched.fleet._linger_s = 0
    await watched.tick()
    assert not is_watched(watched.fleet)
    watched.fleet.publish(moved(watched.ids[0], 1))
    assert watched.fleet.trips == 0


@pytest.mark.gen_test
async def test_an_error_of_ours_stops_neither_ingest_nor_the_next_tick(
    engine: sa.Engine, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(engine, 1)
    await watched.join(wires[1])
    await wires[1].messages(until=b'"more":false')
    watched.fleet.publish(BookingChanges(watched.ids[0], None))  # type: ignore[arg-type]
    delays = iter([1])

    def delay_s() -> float:
        if next(delays, None) is not None:
            raise ZeroDivisionError
        return 0.0

    monkeypatch.setattr(fleet_module, "TICK_S", 0.001)
    watched.fleet.publish(moved(watched.ids[0], 1))
    telling = asyncio.create_task(tell_fleet(watched.fleet, watched.metrics, delay_s))
    assert (await wires[1].messages(until=b'"changes"'))[0]["rows"][0][12] == 1
    telling.cancel()
    assert watched.metrics.live_errors.labels("fleet")._value.get() == 2


def test_trips_are_read_with_their_markers(engine: sa.Engine) -> None:
    one, two = store_trips(engine, 2)
    found = {trip.booking_id: trip for trip in active_trips(engine)}
    for trip in (one, two):
        last = found[trip.booking_id].last
        assert last is not None
        assert (last.seq, last.heading_degrees) == (1, 90.0)
    only: list[UUID] = [trip.booking_id for trip in active_trips(engine, [one.booking_id])]
    assert only == [one.booking_id]
