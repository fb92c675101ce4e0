"""`tracking.v1` over real sockets: nothing missing, nothing twice, and every end has its code."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from tornado.httpclient import HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    websocket_connect,
)

from tests.running import Platform, Server, Trip, wait_until
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.errors import InvalidRequest
from tracking.store.ingest.batch import store_batch
from tracking.wire import protocol

WAIT_S = 50


class Client:
    """Speaks tracking.v1, keeps what it was told."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self.socket = socket
        self.told: list[dict[str, Any]] = []

    @classmethod
    async def join(
        cls, server: Server, booking_id: UUID, token: str | None, **query: object
    ) -> "Client":
        parts = [f"{name}={value}" for name, value in query.items()]
        parts += [] if token is None else [f"token={token}"]
        url = f"ws://127.0.0.1:{server.port}/ws/tracking/{booking_id}?{'&'.join(parts)}"
        socket = await websocket_connect(
            HTTPRequest(url), subprotocols=[protocol.SUBPROTOCOL], ping_interval=0
        )
        assert socket.selected_subprotocol == protocol.SUBPROTOCOL
        return cls(socket)

    async def next(self) -> dict[str, Any] | None:
        """None when the socket was closed."""
        text = await asyncio.wait_for(self.socket.read_message(), WAIT_S)
        if text is None:
            return None
        message: dict[str, Any] = json.loads(text)
        self.told.append(message)
        return message

    async def next_of(self, type_: str) -> dict[str, Any]:
        while (message := await self.next()) is not None:
            if message["type"] == type_:
                return message
        raise AssertionError(f"closed before {type_}: {self.socket.close_code}")

    async def closed(self) -> int | None:
        while await self.next() is not None:
            pass
        self.socket.close()
        return self.socket.close_code

    async def say(self, **message: object) -> None:
        await self.socket.write_message(json.dumps(message))

    def seqs(self) -> list[int]:
        """Of every waypoint, in the order of arrival."""
        found: list[int] = []
        for message in self.told:
            if message["type"] == "location_update":
                found.append(message["seq"])
            elif message["type"] == "backfill":
                found += [point["seq"] for point in message["points"]]
        return found


def stored(server: Server, platform: Platform, count: int, **trip: Any) -> Trip:
    """A trip with so many waypoints."""
    made = Trip(**trip)
    platform.accept(made)
    for second in range(count):
        platform.update(made, second)
    wait_until(lambda: head(server, made)["seq"] == count, f"{count} waypoints")
    return made


def head(server: Server, trip: Trip) -> dict[str, Any]:
    path = f"/api/v1/tracking/{trip.booking_id}"
    status, body, _ = server.get(path, server.token(trip.owner_id, "owner"))
    data: dict[str, Any] = body["data"] if status == 200 else {"seq": 0}
    return data


def owner(server: Server, trip: Trip, **claims: Any) -> str:
    return server.token(trip.owner_id, "owner", **claims)


@pytest.mark.gen_test
async def test_who_joins_gets_the_route_and_then_what_happens(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 3)
    client = await Client.join(server, trip.booking_id, owner(server, trip))
    welcome = await client.next()
    assert welcome is not None
    assert (welcome["type"], welcome["seq"], welcome["status"]) == ("welcome", 3, "active")
    assert welcome["epoch"] == head(server, trip)["epoch"]
    assert welcome["recovered"] is None
    assert (welcome["freshness"]["state"], welcome["freshness"]["reason"]) == ("live", None)
    assert welcome["last_position"]["seq"] == 3
    backfill = await client.next()
    assert backfill is not None
    assert (backfill["after_seq"], backfill["through_seq"], backfill["more"]) == (0, 3, False)
    platform.update(trip, 10)
    live = await client.next_of("location_update")
    assert (live["seq"], live["booking_id"]) == (4, str(trip.booking_id))
    assert client.seqs() == [1, 2, 3, 4]
    client.socket.close()


@pytest.mark.gen_test
async def test_without_history_there_is_only_what_happens_next(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 3)
    client = await Client.join(server, trip.booking_id, owner(server, trip), history="none")
    await client.next_of("welcome")
    platform.update(trip, 10)
    await client.next_of("location_update")
    assert client.seqs() == [4]
    client.socket.close()


@pytest.mark.gen_test
async def test_a_resume_brings_what_was_missed_and_nothing_else(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 5)
    epoch = head(server, trip)["epoch"]
    client = await Client.join(
        server, trip.booking_id, owner(server, trip), epoch=epoch, since_seq=3
    )
    assert (await client.next_of("welcome"))["recovered"] is True
    await client.next_of("backfill")
    assert client.seqs() == [4, 5]
    client.socket.close()
    current = await Client.join(
        server, trip.booking_id, owner(server, trip), epoch=epoch, since_seq=5
    )
    assert (await current.next_of("welcome"))["recovered"] is True
    platform.update(trip, 10)
    await current.next_of("location_update")
    assert current.seqs() == [6]
    current.socket.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("options", [{"epoch": "other", "since_seq": 2}, {"since_seq": 99},
                                  {"since_seq": 2}])  # fmt: skip
async def test_what_cannot_be_resumed_is_said_and_sent_whole(
    server: Server, platform: Platform, options: dict[str, Any]
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 3)
    if options["since_seq"] == 99:
        options = {**options, "epoch": head(server, trip)["epoch"]}
    client = await Client.join(server, trip.booking_id, owner(server, trip), **options)
    assert (await client.next_of("welcome"))["recovered"] is False
    await client.next_of("backfill")
    assert client.seqs() == [1, 2, 3]
    client.socket.close()


@pytest.mark.gen_test
async def test_rows_that_were_erased_are_no_recovery(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 4)
    with engine.begin() as connection:
        connection.execute(
            sa.text("DELETE FROM waypoints USING tracks t WHERE t.id = track_id AND seq = 3"
                    " AND t.booking_id = :id"), {"id": trip.booking_id},
        )  # fmt: skip
    epoch = head(server, trip)["epoch"]
    client = await Client.join(
        server, trip.booking_id, owner(server, trip), epoch=epoch, since_seq=2
    )
    assert (await client.next_of("welcome"))["recovered"] is False
    client.socket.close()


@pytest.mark.gen_test
async def test_late_points_arrive_as_backfill_and_never_move_the_marker(
    server: Server, platform: Platform
) -> None:
    trip = Trip()
    platform.accept(trip)
    platform.update(trip, 50)
    await asyncio.to_thread(wait_until, lambda: head(server, trip)["seq"] == 1, "one waypoint")
    client = await Client.join(server, trip.booking_id, owner(server, trip))
    await client.next_of("backfill")
    for second in (10, 20):
        platform.update(trip, second)
    platform.update(trip, 60)
    while len(client.seqs()) < 4:
        await client.next()
    assert client.seqs() == [1, 2, 3, 4]
    backfills = [m for m in client.told if m["type"] == "backfill"]
    for each in backfills[1:]:
        seqs = [point["seq"] for point in each["points"]]
        assert (each["after_seq"], each["through_seq"]) == (seqs[0] - 1, seqs[-1])
    late = [p for m in backfills for p in m["points"]][1:]
    # The times as Python reads them: microseconds.
    assert [datetime.fromisoformat(p["recorded_at"]) for p in late] == [trip.at(10), trip.at(20)]
    live = [m for m in client.told if m["type"] == "location_update"]
    assert [datetime.fromisoformat(m["recorded_at"]) for m in live] == [trip.at(60)]
    client.socket.close()


@pytest.mark.gen_test
async def test_a_client_that_sees_a_gap_catches_up(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 6)
    client = await Client.join(server, trip.booking_id, owner(server, trip), history="none")
    await client.next_of("welcome")
    await client.say(type="catch_up", since_seq=2)
    backfill = await client.next_of("backfill")
    assert ([p["seq"] for p in backfill["points"]], backfill["through_seq"]) == ([3, 4, 5, 6], 6)
    platform.update(trip, 10)
    assert (await client.next_of("location_update"))["seq"] == 7
    client.socket.close()


@pytest.mark.gen_test
async def test_the_end_of_the_trip_is_told_and_closes(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 2)
    client = await Client.join(server, trip.booking_id, owner(server, trip))
    await client.next_of("backfill")
    platform.send("booking.pet_picked_up", **trip.identity(), occurred_at=(trip.at(5)).isoformat())
    picked_up = await client.next_of("track_update")
    assert (picked_up["old_phase"], picked_up["phase"]) == ("to_pickup", "to_dropoff")
    platform.deliver(trip, trip.at(60))
    ended = await client.next_of("track_update")
    assert (ended["old_status"], ended["status"]) == ("active", "completed")
    assert ended["completed_at"] is not None
    assert await client.closed() == 1000
    late = await Client.join(server, trip.booking_id, owner(server, trip))
    assert await late.closed() == 1000
    assert [m["type"] for m in late.told] == ["welcome", "backfill"]
    assert late.seqs() == [1, 2]


@pytest.mark.gen_test
async def test_an_owner_waits_from_the_request_on(server: Server, platform: Platform) -> None:
    trip = Trip()
    platform.send(
        "booking.requested", **trip.identity(), pickup_lat=-6.2, pickup_lng=106.8,
        dropoff_lat=-6.3, dropoff_lng=106.9, occurred_at=trip.at(-60).isoformat(),
    )  # fmt: skip
    client = None
    for _ in range(100):
        client = await Client.join(server, trip.booking_id, owner(server, trip))
        if await client.next() is not None:
            break
        client.socket.close()
    assert client is not None
    assert client.told[0]["status"] == "requested"
    assert (client.told[0]["epoch"], client.told[0]["freshness"]) == (None, None)
    platform.accept(trip)
    began = await client.next_of("track_update")
    assert (began["old_status"], began["status"]) == (None, "active")
    assert began["epoch"]
    platform.update(trip, 1)
    assert (await client.next_of("location_update"))["seq"] == 1
    client.socket.close()


@pytest.mark.gen_test
async def test_a_token_is_refreshed_or_the_socket_is_closed(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 1)
    soon = datetime.now(UTC) + timedelta(seconds=4)
    client = await Client.join(server, trip.booking_id, owner(server, trip, exp=soon))
    assert (await client.next_of("token_expiring"))["token_expires_at"].startswith(
        f"{soon:%Y-%m-%dT%H:%M:%S}"
    )
    await client.say(type="refresh", token=owner(server, trip))
    renewed = await client.next_of("heartbeat")
    assert datetime.fromisoformat(renewed["token_expires_at"]) > soon
    client.socket.close()
    lazy = await Client.join(server, trip.booking_id, owner(server, trip, exp=soon))
    assert await lazy.closed() == 4401


@pytest.mark.gen_test
async def test_what_a_client_may_not_say_has_its_code(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 1)

    async def code_after(*messages: dict[str, Any]) -> int | None:
        client = await Client.join(server, trip.booking_id, owner(server, trip))
        with suppress(WebSocketClosedError):  # the answer may be there before the last of them
            for message in messages:
                await client.say(**message)
        return await client.closed()

    stranger = server.token(uuid4(), "owner")
    assert await code_after({"type": "refresh", "token": stranger}) == 4501
    assert await code_after({"type": "refresh", "token": "nonsense"}) == 4501
    assert await code_after({"type": "catch_up", "since_seq": -1}) == 4500
    assert await code_after({"type": "unknown"}) == 4500
    assert await code_after(*[{"type": "catch_up", "since_seq": 1}] * 50) == 4429
    assert await code_after({"type": "refresh", "token": "x" * 20_000}) == 1009


@pytest.mark.gen_test
async def test_a_refusal_is_a_code_that_a_browser_can_read(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 1)

    async def code(booking_id: object, token: str | None, **query: object) -> int | None:
        client = await Client.join(server, booking_id, token, **query)  # type: ignore[arg-type]
        return await client.closed()

    mine = owner(server, trip)
    assert await code(trip.booking_id, None) == 4501
    assert await code(trip.booking_id, "nonsense") == 4501
    assert await code("not-an-id", mine) == 4500
    assert await code(trip.booking_id, mine, since_seq="x") == 4500
    assert await code(trip.booking_id, mine, history="some") == 4500
    assert await code(trip.booking_id, mine, min_interval_ms=10_000_000) == 4500
    await asyncio.to_thread(server.wait_measured)
    assert await code(uuid4(), mine) == 4503
    assert await code(trip.booking_id, server.token(uuid4(), "owner")) == 4503
    assert await code(trip.booking_id, server.token(trip.owner_id, "shop")) == 4503


@pytest.mark.gen_test
async def test_who_wants_less_gets_the_newest_in_each_interval(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 1)
    client = await Client.join(server, trip.booking_id, owner(server, trip), min_interval_ms=2_000)
    await client.next_of("backfill")
    for second in range(1, 31):
        await asyncio.to_thread(platform.update, trip, second)
    while (await client.next_of("location_update"))["seq"] < 31:
        pass
    live = [m["seq"] for m in client.told if m["type"] == "location_update"]
    assert live == sorted(live)
    assert len(live) < 10
    client.socket.close()


@pytest.mark.gen_test
async def test_thousands_of_missed_waypoints_come_page_by_page(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = Trip(datetime.now(UTC) - timedelta(hours=12))
    ids = (trip.runner_id, trip.booking_id)
    events = [BookingEvent(trip.booking_id, "accepted", trip.start, trip.runner_id, trip.owner_id)]
    store_batch(engine, events)
    times = [trip.at(second) for second in range(2_500)]
    store_batch(engine, [LocationUpdate(*ids, 106.8, -6.2, 1.0, 1.0, t, t, t) for t in times])
    epoch = head(server, trip)["epoch"]
    client = await Client.join(
        server, trip.booking_id, owner(server, trip), epoch=epoch, since_seq=100
    )
    while (await client.next_of("backfill"))["more"]:
        pass
    assert client.seqs() == list(range(101, 2_501))
    sizes = [len(m["points"]) for m in client.told if m["type"] == "backfill"]
    assert sizes == [1_000, 1_000, 400]
    client.socket.close()


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"type": "catch_up"}', b"\xff", "1",
                                  '{"type": "catch_up", "since_seq": 1e400}', "[" * 5000,
                                  '{"type": "catch_up", "since_seq": 9007199254740993}',
                                  '{"type": "refresh", "token": 5}'])  # fmt: skip
def test_nonsense_from_a_client_is_a_bad_request(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest):
        protocol.client_message(text)
