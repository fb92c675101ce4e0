"""`/ws/shared/{token}`: where and when, but not who; and no longer than the owner wants."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import websocket_connect

from tests.proxy import Proxy
from tests.running import Platform, Server, Trip, running_server, stamp, wait_until
from tests.served import owner, stored_trip, track, wait_seq
from tests.sharing import SharedClient, change, revoke, share, shared, shares
from tests.test_protocol import Client
from tracking.domain.times import rfc3339
from tracking.wire.messages import whole_seconds

POINT = {"latitude": -6.2, "speed_kmh": 36.5, "heading_degrees": 90.0}


def point(trip: Trip, seq: int, second: float) -> dict[str, Any]:
    """A waypoint of a backfill, as a whole."""
    return {**POINT, "seq": seq, "longitude": round(106.8 + second * 1e-4, 6),
            "recorded_at": rfc3339(trip.at(second))}  # fmt: skip


def position(trip: Trip, seq: int, second: float, received_at: str) -> dict[str, Any]:
    """A live position, as a whole."""
    return {**point(trip, seq, second), "type": "location_update", "received_at": received_at,
            "booking_id": str(trip.booking_id),
            "timestamp": whole_seconds(trip.at(second))}  # fmt: skip


def backfill(trip: Trip, after: int, through: int, *points: dict[str, Any]) -> dict[str, Any]:
    return {"type": "backfill", "booking_id": str(trip.booking_id), "points": list(points),
            "after_seq": after, "through_seq": through, "more": False}  # fmt: skip


def pick_up(platform: Platform, trip: Trip, second: float) -> None:
    at = stamp(trip.at(second))
    platform.send("booking.pet_picked_up", **trip.identity(), picked_up_at=at, occurred_at=at)


def cut(client: Client) -> None:
    """The link is lost, without a word."""
    client.socket.protocol.stream.close()  # type: ignore[union-attr]
    client.socket.close()


async def stored(server: Server, platform: Platform, count: int) -> Trip:
    """One after the other, or Kafka's partitions might change the order."""
    trip = await asyncio.to_thread(stored_trip, server, platform)
    await add(server, platform, trip, *range(1, count))
    return trip


async def add(server: Server, platform: Platform, trip: Trip, *seconds: float) -> None:
    """Waypoints whose seqs are in this order."""
    for second in seconds:
        seq = track(server, trip)["seq"] + 1
        platform.update(trip, second)
        await asyncio.to_thread(wait_seq, server, trip, seq)


@pytest.mark.gen_test
async def test_whole_messages_name_nobody(server: Server, platform: Platform) -> None:
    trip = await stored(server, platform, 2)
    epoch = track(server, trip)["epoch"]
    link = share(server, trip, expires_in_s=600)
    client = await SharedClient.look(server, link["share_token"])
    welcome = await client.next_of("welcome")
    freshness = welcome["freshness"]
    assert set(freshness) == {"state", "reason", "last_received_at", "next_expected_at"}
    until = datetime.fromisoformat(welcome["token_expires_at"])
    assert whole_seconds(until) == link["expires_at"]
    assert welcome == {
        "type": "welcome", "booking_id": str(trip.booking_id), "epoch": epoch, "seq": 2,
        "status": "active", "phase": "to_pickup", "waiting": False, "freshness": freshness,
        "last_position": position(trip, 2, 1, welcome["last_position"]["received_at"]),
        "recovered": None, "heartbeat_s": 15, "token_expires_at": rfc3339(until),
        "flagged": [], "arrivals": {"pickup": None, "dropoff": None},
        "eta": None, "eta_reason": welcome["eta_reason"],
        "started_at": rfc3339(trip.start), "picked_up_at": None, "completed_at": None,
        "route_expired_at": None,
    }  # fmt: skip
    assert await client.next() == backfill(trip, 0, 2, point(trip, 1, 0), point(trip, 2, 1))
    platform.update(trip, 5)
    live = await client.next()
    assert live is not None
    assert live == position(trip, 3, 5, live["received_at"])
    pick_up(platform, trip, 6)
    update = {"type": "track_update", "booking_id": str(trip.booking_id), "epoch": epoch,
              "status": "active", "phase": "to_dropoff", "waiting": False,
              "old_status": "active", "old_phase": "to_pickup", "completed_at": None,
              "started_at": rfc3339(trip.start), "picked_up_at": rfc3339(trip.at(6))}  # fmt: skip
    assert await client.next() == update
    assert change(server, trip, link["id"], expires_in_s=1200)[0] == 200
    renewed = await client.next_of("heartbeat")
    assert set(renewed) == {"type", "token_expires_at"}
    assert datetime.fromisoformat(renewed["token_expires_at"]) > until
    platform.deliver(trip, trip.at(60))
    at = rfc3339(trip.at(60))
    assert await client.next() == {
        **update, "status": "completed", "phase": "done", "old_phase": "to_dropoff",
        "completed_at": at,
    }  # fmt: skip
    assert await client.closed() == 1000
    told = json.dumps(client.told)
    for secret in (*trip.identity().values(), link["id"], link["share_token"]):
        assert secret == str(trip.booking_id) or secret not in told


@pytest.mark.gen_test
async def test_another_runner_is_nobodys_business(server: Server, platform: Platform) -> None:
    trip = await stored(server, platform, 1)
    client = await SharedClient.look(server, share(server, trip)["share_token"])
    await client.next_of("backfill")
    other = Trip(trip.start)
    platform.accept(trip, trip.at(10), runner_id=str(other.runner_id))
    platform.update(trip, 20, runner_id=str(other.runner_id))
    await client.until_seq(2)
    assert [m["type"] for m in client.told] == ["welcome", "backfill", "location_update"]
    client.socket.close()


@pytest.mark.gen_test
async def test_whoever_comes_back_gets_what_was_missed(server: Server, platform: Platform) -> None:
    trip = await stored(server, platform, 3)
    token = share(server, trip)["share_token"]
    client = await SharedClient.look(server, token)
    await client.until_seq(3)
    cut(client)
    await add(server, platform, trip, 10, 5, 20)  # one of them late
    again = await SharedClient.look(server, token, epoch=client.told[0]["epoch"], since_seq=3)
    assert (await again.next_of("welcome"))["recovered"] is True
    missed = backfill(trip, 3, 6, point(trip, 4, 10), point(trip, 5, 5), point(trip, 6, 20))
    assert await again.next() == missed
    platform.update(trip, 15)
    assert await again.next() == backfill(trip, 6, 7, point(trip, 7, 15))
    platform.update(trip, 30)
    await again.until_seq(8)
    await again.say(type="catch_up", since_seq=6)
    caught_up = backfill(trip, 6, 8, point(trip, 7, 15), point(trip, 8, 30))
    assert await again.next_of("backfill") == caught_up
    again.socket.close()
    elsewhere = await SharedClient.look(server, token, epoch="another", since_seq=3)
    assert (await elsewhere.next_of("welcome"))["recovered"] is False
    await elsewhere.until_seq(8)
    elsewhere.socket.close()


@pytest.mark.gen_test
async def test_after_the_end_it_shows_the_final_state_for_so_long(
    server: Server, platform: Platform
) -> None:
    trip = await stored(server, platform, 1)
    long, brief = share(server, trip, after_end_s=600), share(server, trip, after_end_s=0)
    client = await SharedClient.look(server, brief["share_token"])
    await client.next_of("backfill")
    platform.deliver(trip, trip.at(60))
    assert (await client.next_of("track_update"))["status"] == "completed"
    assert await client.closed() in (1000, 4503)
    late = await SharedClient.look(server, long["share_token"])
    assert await late.closed() == 1000
    assert [m["type"] for m in late.told] == ["welcome", "backfill"]
    assert (late.told[0]["status"], late.told[0]["freshness"]) == ("completed", None)
    assert shared(server, long["share_token"])[1]["data"]["status"] == "completed"
    too_late = await SharedClient.look(server, brief["share_token"])
    assert (await too_late.closed(), too_late.told) == (4503, [])
    assert shared(server, brief["share_token"]) == shared(server, "unknown")
    assert [each["status"] for each in shares(server, trip)] == ["ended", "active"]


@pytest.mark.gen_test
async def test_from_the_pickup_on_and_nothing_before(server: Server, platform: Platform) -> None:
    trip = await stored(server, platform, 2)
    token = share(server, trip, **{"from": "pickup"})["share_token"]
    client = await SharedClient.look(server, token)
    welcome = await client.next_of("welcome")
    hidden = {"waiting": True, "last_position": None, "epoch": None, "seq": 0, "freshness": None}
    assert {name: welcome[name] for name in hidden} == hidden
    assert shared(server, token)[1]["data"]["waypoints"] == []
    assert shares(server, trip)[0]["status"] == "waiting"
    watching = await Client.join(server, trip.booking_id, owner(server, trip))
    await watching.next_of("backfill")
    await add(server, platform, trip, 3, 2.5)  # the second one late
    await add(server, platform, trip, 10)  # after the pickup, of which nobody knows yet
    while len(watching.seqs()) < 5:
        await watching.next()
    watching.socket.close()
    pick_up(platform, trip, 5)
    began = await client.next()
    assert began is not None
    epoch = began["epoch"]
    assert (began["type"], began["phase"], began["waiting"]) == (
        "track_update",
        "to_dropoff",
        False,
    )
    assert await client.next() == backfill(trip, 0, 5, point(trip, 5, 10))
    platform.update(trip, 4)  # late, and from before
    assert await client.next() == backfill(trip, 5, 6)
    platform.update(trip, 7)  # late, and from behind
    assert await client.next() == backfill(trip, 6, 7, point(trip, 7, 7))
    platform.update(trip, 20)
    live = await client.next()
    assert live is not None
    assert live == position(trip, 8, 20, live["received_at"])
    cut(client)
    await add(server, platform, trip, 4.5, 30)
    again = await SharedClient.look(server, token, epoch=epoch, since_seq=8)
    welcome = await again.next_of("welcome")
    assert (welcome["recovered"], welcome["waiting"], welcome["epoch"]) == (True, False, epoch)
    assert await again.next() == backfill(trip, 8, 10, point(trip, 10, 30))
    again.socket.close()
    data = shared(server, token)[1]["data"]
    assert [each["seq"] for each in data["waypoints"]] == [7, 5, 8, 10]
    assert (data["epoch"], data["seq"], data["waiting"]) == (epoch, 10, False)


@pytest.mark.gen_test
async def test_who_waited_for_the_pickup_hears_what_is_left_out_before_it_is_sent(
    server: Server, platform: Platform
) -> None:
    trip = await stored(server, platform, 2)
    token = share(server, trip, **{"from": "pickup"})["share_token"]
    client = await SharedClient.look(server, token)
    assert (await client.next_of("welcome"))["flagged"] == []
    await add(server, platform, trip, 10)  # after the pickup, of which nobody knows yet
    platform.update(trip, 12, longitude=110.0)  # no runner can be there
    await asyncio.to_thread(wait_seq, server, trip, 4)
    pick_up(platform, trip, 5)
    await client.next_of("track_update")
    flagged = await client.next()
    assert flagged is not None
    assert (flagged["type"], flagged["runs"]) == ("flagged", [[4, 4]])
    assert (await client.next_of("backfill"))["through_seq"] == 4
    client.socket.close()


@pytest.mark.gen_test
async def test_another_time_of_the_pickup_shows_what_belongs_to_it(
    server: Server, platform: Platform
) -> None:
    """The events of two apps: the later one that is told first, then the one that counts."""
    trip = await stored(server, platform, 1)
    await add(server, platform, trip, 10, 20)
    token = share(server, trip, **{"from": "pickup"})["share_token"]
    pick_up(platform, trip, 5)
    await asyncio.to_thread(
        wait_until, lambda: not shared(server, token)[1]["data"]["waiting"], "picked up"
    )
    client = await SharedClient.look(server, token)
    welcome = await client.next_of("welcome")
    assert await client.next() == backfill(trip, 0, 3, point(trip, 2, 10), point(trip, 3, 20))
    pick_up(platform, trip, 15)
    changed = await client.next_of("track_update")
    assert changed["epoch"] != welcome["epoch"]
    assert await client.next() == backfill(trip, 0, 3, point(trip, 3, 20))
    client.socket.close()
    stale = await SharedClient.look(server, token, epoch=welcome["epoch"], since_seq=3)
    assert (await stale.next_of("welcome"))["recovered"] is False
    assert await stale.next() == backfill(trip, 0, 3, point(trip, 3, 20))
    stale.socket.close()


@pytest.mark.gen_test
async def test_a_trip_that_ends_without_a_pickup_showed_nothing(
    server: Server, platform: Platform
) -> None:
    trip = await stored(server, platform, 1)
    token = share(server, trip, **{"from": "pickup"})["share_token"]
    client = await SharedClient.look(server, token)
    await client.next_of("welcome")
    platform.deliver(trip, trip.at(60))
    assert await client.closed() == 1000
    assert client.seqs() == []
    assert (client.told[1]["status"], client.told[1]["waiting"]) == ("completed", False)
    assert shared(server, token)[1]["data"]["waypoints"] == []


@pytest.fixture(scope="module")
def other_process(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Another one on the same database."""
    log: Path = tmp_path_factory.mktemp("other") / "server.log"
    with running_server(database, log) as server:
        yield server


@pytest.mark.gen_test
async def test_a_link_that_is_revoked_elsewhere_is_closed_within_a_second(
    server: Server, other_process: Server, platform: Platform
) -> None:
    trip = await stored(server, platform, 1)
    watching = await Client.join(server, trip.booking_id, owner(server, trip))
    kept = await SharedClient.look(server, share(server, trip)["share_token"])
    took = []
    for _ in range(3):
        link = share(server, trip)
        client = await SharedClient.look(server, link["share_token"])
        await client.next_of("backfill")
        assert await asyncio.to_thread(revoke, other_process, trip, link["id"]) == 204
        revoked_at = time.monotonic()
        assert await client.closed() == 4503
        took.append(time.monotonic() - revoked_at)
        assert client.socket.close_reason == "not found or not yours"
        again = await SharedClient.look(server, link["share_token"])
        assert (await again.closed(), again.told) == (4503, [])
    assert sorted(took)[1] < 1.0
    platform.update(trip, 10)
    for each in (watching, kept):
        await each.next_of("location_update")
        each.socket.close()


@pytest.mark.gen_test
async def test_the_end_of_its_time_closes_unless_it_is_extended(
    server: Server, platform: Platform
) -> None:
    trip = await stored(server, platform, 1)
    brief, longer = share(server, trip, expires_in_s=2), share(server, trip, expires_in_s=2)
    clients = [await SharedClient.look(server, each["share_token"]) for each in (brief, longer)]
    assert change(server, trip, longer["id"], expires_in_s=600)[0] == 200
    assert await clients[0].closed() == 4503
    assert "token_expiring" not in [message["type"] for message in clients[0].told]
    platform.update(trip, 10)
    await clients[1].next_of("location_update")
    clients[1].socket.close()


@pytest.mark.gen_test
async def test_what_it_does_not_take_has_its_code(server: Server, platform: Platform) -> None:
    trip = await stored(server, platform, 1)
    token = share(server, trip)["share_token"]
    assert await (await SharedClient.look(server, "x" * 43)).closed() == 4503
    assert await (await SharedClient.look(server, "x" * 5000)).closed() == 4503
    for query in ({"since_seq": "x"}, {"history": "some"}, {"min_interval_ms": 10_000_000}):
        assert await (await SharedClient.look(server, token, **query)).closed() == 4500
    client = await SharedClient.look(server, token, history="none")
    await client.say(type="refresh", token=owner(server, trip))
    assert await client.closed() == 4500
    assert client.seqs() == []
    with pytest.raises(HTTPClientError, match="400"):
        await websocket_connect(f"ws://127.0.0.1:{server.port}/ws/shared/{token}")
    assert server.metric("tracking_joins_total", protocol="shared", outcome="not_found") >= 2


@pytest.mark.gen_test
async def test_an_opening_is_counted_once_for_each_viewer(
    server: Server, platform: Platform
) -> None:
    trip = await stored(server, platform, 1)
    link = share(server, trip)
    path = f"/api/v1/tracking/shared/{link['share_token']}"

    def counts() -> tuple[int, int]:
        (listed,) = shares(server, trip)
        assert (listed["last_opened_at"] is None) == (listed["opens"] == 0)
        return listed["opens"], listed["viewers"]

    server.get(path, None, "HEAD", **{"User-Agent": "a bot"})
    assert counts() == (0, 0)
    first = await SharedClient.look(server, link["share_token"])  # Tornado's User-Agent
    epoch = (await first.next_of("welcome"))["epoch"]
    assert counts() == (1, 1)
    cut(first)
    again = await SharedClient.look(server, link["share_token"], epoch=epoch, since_seq=1)
    more = await SharedClient.look(server, link["share_token"])
    for client in (again, more):
        await client.next_of("welcome")
    await asyncio.to_thread(wait_until, lambda: counts() == (1, 2), "the first has gone")
    server.get(path, **{"User-Agent": "a browser"})
    server.get(path, **{"User-Agent": "a browser"})
    assert counts() == (2, 2)
    for client in (again, more):
        client.socket.close()
    await asyncio.to_thread(wait_until, lambda: counts() == (2, 0), "all gone")


@pytest.mark.gen_test
async def test_while_nobody_can_ask_the_database_links_are_closed_and_others_are_not(
    database: dict[str, str], tmp_path: Path
) -> None:
    proxy = Proxy(database["DB_HOST"], int(database["DB_PORT"]))
    environ = {**database, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}
    limits = {"MAX_VIEWERS_PER_LINK": "1", "LOG_LEVEL": "debug", "UNKNOWN_BOOKING_GRACE": "0"}
    with running_server(environ, tmp_path / "log", **limits) as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = await stored(server, platform, 1)
        link = share(server, trip)
        token = link["share_token"]
        for fault in ("cut", "hang"):
            watching = await Client.join(server, trip.booking_id, owner(server, trip))
            await watching.next_of("backfill")
            client = await SharedClient.look(server, token)
            await client.next_of("backfill")
            full = await SharedClient.look(server, token)
            assert await full.closed() == 4504
            await asyncio.to_thread(getattr(proxy, fault))
            assert await client.closed() == 1013
            away = await SharedClient.look(server, token)
            assert await away.closed() == 1013
            await asyncio.to_thread(proxy.heal)
            await asyncio.to_thread(wait_until, lambda: shared(server, token)[0] == 200, "back")
            platform.update(trip, 60 if fault == "cut" else 70)
            await watching.next_of("location_update")
            watching.socket.close()
        assert revoke(server, trip, link["id"]) == 204
        assert shared(server, token)[0] == 404
        for path in (f"/s/{token}", f"/ws/shared/{token}", f"/api/v1/tracking/shared%2F{token}"):
            server.get(path)
        platform.close()
        log, metrics = server.log.read_text(), server.get("/metrics")[1].decode()
    proxy.close()
    assert "/ws/shared/***" in log
    assert "share links cannot be checked" in log
    assert "Traceback" not in log
    for text in (log, metrics):
        assert token[:20] not in text
