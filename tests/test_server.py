"""The whole service as a process: Kafka in, REST and WebSocket out, start and stop."""

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from socket import create_server
from typing import Any
from uuid import UUID, uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from tests.programs import run_program
from tests.running import Platform, Server, Trip, running_server, stamp, wait_until

API = "/api/v1/tracking"


def owner(server: Server, trip: Trip) -> str:
    return server.token(trip.owner_id, "owner")


def track(server: Server, trip: Trip) -> dict[str, Any]:
    status, body, _ = server.get(f"{API}/{trip.booking_id}", owner(server, trip))
    return dict(body["data"]) if status == 200 else {}


def wait_seq(server: Server, trip: Trip, seq: int) -> dict[str, Any]:
    found: dict[str, Any] = wait_until(
        lambda: (t := track(server, trip)) and t["seq"] >= seq and t, f"seq {seq}"
    )
    return found


def stored_trip(server: Server, platform: Platform, waypoints: int = 1) -> Trip:
    trip = Trip()
    platform.accept(trip)
    for second in range(waypoints):
        platform.update(trip, second)
    wait_until(lambda: track(server, trip), "accepted")
    wait_seq(server, trip, waypoints)
    return trip


async def next_message(socket: WebSocketClientConnection) -> dict[str, Any]:
    text = await asyncio.wait_for(socket.read_message(), 50)
    assert isinstance(text, str)
    message: dict[str, Any] = json.loads(text)
    return message


@pytest.mark.gen_test
async def test_an_update_moves_the_marker(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    socket = await server.watch(trip.booking_id, owner(server, trip))
    first = await next_message(socket)
    assert first["seq"] == 1
    platform.update(trip, 5, speed_kmh=-1, heading_degrees=-1, timestamp=stamp(trip.at(5.25)))
    moved = await next_message(socket)
    expected = {
        "booking_id": str(trip.booking_id),
        "runner_id": str(trip.runner_id),
        "latitude": -6.2,
        "longitude": 106.8005,
        "speed_kmh": 0.0,
        "heading_degrees": 0.0,
        "timestamp": trip.at(5.25).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seq": 2,
    }
    assert {name: moved[name] for name in expected} == expected
    assert datetime.fromisoformat(moved["recorded_at"]) == trip.at(5.25)
    socket.close()


@pytest.mark.gen_test
async def test_a_late_point_does_not_move_the_marker(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform, 10)
    socket = await server.watch(trip.booking_id, owner(server, trip))
    assert (await next_message(socket))["longitude"] == 106.8009
    platform.update(trip, 4.5)
    await asyncio.to_thread(wait_seq, server, trip, 11)
    platform.update(trip, 20)
    assert (await next_message(socket))["seq"] == 12
    route = (await asyncio.to_thread(track, server, trip))["waypoints"]
    longitudes = [waypoint["longitude"] for waypoint in route]
    assert longitudes == sorted(longitudes)
    assert (route[5]["seq"], route[5]["longitude"]) == (11, 106.80045)
    socket.close()


@pytest.mark.gen_test
async def test_the_stream_stays_open_and_silent_after_the_trip(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    socket = await server.watch(trip.booking_id, owner(server, trip))
    await next_message(socket)
    platform.deliver(trip, trip.at(30))
    await asyncio.to_thread(
        wait_until, lambda: track(server, trip)["status"] == "completed", "completed"
    )
    late = await server.watch(trip.booking_id, owner(server, trip))
    assert (await next_message(late))["seq"] == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(socket.read_message(), 0.5)
    rooms = server.metric("tracking_rooms")
    assert rooms >= 1
    socket.close()
    late.close()


@pytest.mark.gen_test
async def test_an_owner_may_wait_for_the_acceptance(server: Server, platform: Platform) -> None:
    trip = Trip()
    position = {"pickup_lat": 1, "pickup_lng": 2, "dropoff_lat": 3, "dropoff_lng": 4}
    identity = {k: v for k, v in trip.identity().items() if k != "runner_id"}
    platform.send("booking.requested", **identity, **position, occurred_at=stamp(trip.start))

    async def connected() -> WebSocketClientConnection | None:
        try:
            return await server.watch(trip.booking_id, owner(server, trip))
        except HTTPClientError:
            return None

    while (socket := await connected()) is None:
        await asyncio.to_thread(server.get, "/health")  # let the server go on
    platform.accept(trip)
    platform.update(trip, 1)
    assert (await next_message(socket))["seq"] == 1
    socket.close()


@pytest.mark.gen_test
async def test_a_replaced_runner_sees_no_more(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    old = await server.watch(trip.booking_id, server.token(trip.runner_id, "runner"))
    await next_message(old)
    new_runner = uuid4()
    platform.accept(trip, trip.at(100), runner_id=str(new_runner))
    assert await asyncio.wait_for(old.read_message(), 50) is None
    assert old.close_code == 4503
    old.close()
    await asyncio.to_thread(server.wait_measured)
    with pytest.raises(HTTPClientError, match="404"):
        await server.watch(trip.booking_id, server.token(trip.runner_id, "runner"))
    new = await server.watch(trip.booking_id, server.token(new_runner, "runner"))
    await next_message(new)
    new.close()


@pytest.mark.gen_test
async def test_the_stream_ends_with_its_token(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    token = server.token(trip.owner_id, "owner", lifetime=timedelta(seconds=2))
    socket = await server.watch(trip.booking_id, token)
    await next_message(socket)
    assert await asyncio.wait_for(socket.read_message(), 50) is None
    assert (socket.close_code, socket.close_reason) == (4401, "token expired")
    socket.close()


@pytest.mark.gen_test
async def test_a_token_is_taken_from_all_three_places(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    token = owner(server, trip)
    by_query = await server.watch(trip.booking_id, token)
    by_header = await server.watch(trip.booking_id, None, Authorization=f"Bearer {token}")
    by_protocol = await server.watch(
        trip.booking_id, None, **{"Sec-WebSocket-Protocol": f"bearer.{token}"}
    )
    for socket in (by_query, by_header, by_protocol):
        assert (await next_message(socket))["seq"] == 1
        socket.close()
    other = server.token(trip.owner_id, "owner", jti="other")
    refused: list[tuple[int, dict[str, str]]] = [
        (401, {"Authorization": f"Bearer {other}"}),
        (400, {"Sec-WebSocket-Protocol": "tracking.v9"}),
        (403, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}),
    ]
    for status, headers in refused:
        with pytest.raises(HTTPClientError, match=str(status)):
            await server.watch(trip.booking_id, token, **headers)
    with pytest.raises(HTTPClientError, match="401"):
        await server.watch(trip.booking_id, None)


@pytest.mark.gen_test
async def test_a_room_is_left_on_every_way_a_connection_can_end(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    sockets = [await server.watch(trip.booking_id, owner(server, trip)) for _ in range(3)]
    for socket in sockets:
        await next_message(socket)
    sockets[0].close(1000)
    sockets[1].protocol.stream.close()  # type: ignore[union-attr]  # without a word
    await sockets[2].protocol.stream.write(b"\xff\xff\xff\xff")  # type: ignore[union-attr]

    def alone() -> bool:
        return server.metric("tracking_subscribers") == 0

    await asyncio.to_thread(wait_until, alone, "everybody gone")
    for socket in sockets:
        socket.close()
    assert server.metric("tracking_rooms") == 0


def test_the_apps_answer_is_as_they_decode_it(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 2)
    status, body, headers = server.get(f"{API}/{trip.booking_id}", owner(server, trip))
    assert status == 200
    assert body["success"] is True
    data = body["data"]
    assert data["total_distance_km"] == pytest.approx(0.011, abs=0.001)
    assert data["started_at"] == trip.start.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (data["status"], data["completed_at"]) == ("active", None)
    second = data["waypoints"][1]
    assert second["id"] == str(second["seq"])  # arrival, which Kafka's partitions do not order
    assert {name: value for name, value in second.items() if name not in ("id", "seq")} == {
        "latitude": -6.2,
        "longitude": 106.8001,
        "speed_kmh": 36.5,
        "heading_degrees": 90.0,
        "recorded_at": trip.at(1).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert headers["X-Track-Epoch"] == data["epoch"]


def test_a_route_is_geojson(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 3)
    path = f"{API}/{trip.booking_id}/route"
    status, route, headers = server.get(path, owner(server, trip))
    assert (status, headers["Content-Type"]) == (200, "application/geo+json")
    assert route["type"] == "Feature"
    assert route["bbox"] == [106.8, -6.2, 106.8002, -6.2]
    assert route["geometry"] == {
        "type": "LineString",
        "coordinates": [[106.8, -6.2], [106.8001, -6.2], [106.8002, -6.2]],
    }
    properties = route["properties"]
    assert properties["distance_m"] == pytest.approx(22.1, abs=0.2)
    assert len(properties["coordTimes"]) == 3
    assert datetime.fromisoformat(properties["coordTimes"][0]) == trip.start
    since = server.get(f"{path}?since_seq=2", owner(server, trip))[1]
    assert since["geometry"]["type"] == "Point"
    assert since["geometry"]["coordinates"] in route["geometry"]["coordinates"]
    nothing = server.get(f"{path}?since_seq=3", owner(server, trip))[1]
    assert nothing["geometry"] is None
    assert server.get(f"{path}?since_seq=4", owner(server, trip))[0] == 400
    assert server.get(f"{path}?since_seq=x", owner(server, trip))[0] == 400


def test_an_unchanged_track_is_not_sent_again(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform)
    for path in (f"{API}/{trip.booking_id}", f"{API}/{trip.booking_id}/route"):
        etag = server.get(path, owner(server, trip))[2]["ETag"]
        assert server.get(path, owner(server, trip), **{"If-None-Match": etag})[0] == 304
    platform.update(trip, 9)
    wait_seq(server, trip, 2)
    assert server.get(path, owner(server, trip), **{"If-None-Match": etag})[0] == 200


BOOKING_PATHS = ["", "/route", "/share"]


@pytest.mark.parametrize("path", BOOKING_PATHS)
def test_an_absent_booking_and_anothers_are_the_same(
    server: Server, platform: Platform, path: str
) -> None:
    trip = stored_trip(server, platform)
    method = "POST" if path == "/share" else "GET"
    strangers = [(uuid4(), "owner"), (uuid4(), "runner"), (trip.owner_id, "shop"),
                 (trip.runner_id, "owner"), (trip.owner_id, "runner")]  # fmt: skip
    answers = {
        json.dumps(server.get(f"{API}/{booking}{path}", server.token(*who), method)[:2])
        for booking in (trip.booking_id, uuid4())
        for who in strangers
    }
    assert answers == {'[404, {"success": false, "error": "no such booking"}]'}
    for who in ((trip.owner_id, "owner"), (uuid4(), "admin")):
        status = server.get(f"{API}/{trip.booking_id}{path}", server.token(*who), method)[0]
        assert status in (200, 201)


@pytest.mark.parametrize("path", BOOKING_PATHS)
def test_the_token_is_checked_before_the_id(server: Server, path: str) -> None:
    method = "POST" if path == "/share" else "GET"
    status, body, headers = server.get(f"{API}/nonsense{path}", None, method)
    assert (status, body["success"]) == (401, False)
    assert headers["WWW-Authenticate"].startswith("Bearer")
    token = server.token(uuid4(), "owner")
    assert server.get(f"{API}/nonsense{path}", token, method)[0] == 400


def test_refusals_have_the_apps_error_body(server: Server) -> None:
    for path, method, status in (
        ("/nowhere", "GET", 404),
        ("/health", "POST", 405),
        (f"{API}/{uuid4()}", "DELETE", 405),
    ):
        given = {"X-Request-ID": "from-the-gateway"}
        found, body, headers = server.get(path, None, method, **given)
        assert (found, body["success"]) == (status, False)
        assert body["error"]
        assert headers["X-Request-ID"] == "from-the-gateway"


def test_a_share_link_opens_one_booking_to_the_public(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 2)
    path = f"{API}/{trip.booking_id}/share"
    assert server.get(path, server.token(trip.runner_id, "runner"), "POST")[0] == 404
    status, body, _ = server.get(path, owner(server, trip), "POST")
    assert status == 201
    shared = body["data"]
    assert shared["share_url"].endswith(shared["share_token"])
    public = server.get(f"{API}/shared/{shared['share_token']}")[1]["data"]
    assert (public["booking_id"], public["status"]) == (str(trip.booking_id), "active")
    assert sorted(w["id"] for w in public["waypoints"]) == ["1", "2"]
    for unknown in ("x", "x" * 10_000, shared["share_token"][:-1]):
        assert server.get(f"{API}/shared/{unknown}")[0] == 404
    assert shared["share_token"] not in server.log.read_text()


def test_browsers_of_allowed_origins_may_read(server: Server) -> None:
    allowed = server.get("/health", Origin="https://app.example")[2]
    assert allowed["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Origin" not in server.get("/health", Origin="https://x.y")[2]
    status, _, headers = server.get(
        f"{API}/{uuid4()}", None, "OPTIONS", Origin="https://app.example"
    )
    assert status == 204
    assert "Authorization" in headers["Access-Control-Allow-Headers"]


def test_malformed_events_hurt_nobody_else(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform)
    before = server.metric("tracking_events_total", outcome="dead")
    platform.send("runner.location_update", **trip.update(2, latitude="north"))
    platform.send_raw("runner.events", b"\x00garbage")
    platform.send_raw("runner.events", None)
    platform.update(trip, 3)
    wait_seq(server, trip, 2)
    wait_until(
        lambda: server.metric("tracking_events_total", outcome="dead") == before + 3, "3 dead"
    )
    log = server.log.read_text()
    assert "Expected `float`, got `str` - at `$.latitude`" in log
    assert "north" not in log


def test_all_three_forms_of_an_event_work(server: Server, platform: Platform) -> None:
    trip = Trip()
    accepted = {**trip.identity(), "occurred_at": stamp(trip.start)}
    platform.send_raw("booking.accepted", json.dumps(accepted).encode())
    headers = [("ce_id", b"7"), ("ce_type", b"runner.location_update"), ("ce_source", b"x")]
    platform.send_raw("runner.events", json.dumps(trip.update(1)).encode(), headers)
    platform.update(trip, 2)
    wait_seq(server, trip, 2)


def test_events_go_out_in_order_with_what_consumers_need(
    server: Server, platform: Platform
) -> None:
    trip = stored_trip(server, platform, 3)
    platform.deliver(trip, trip.at(60))
    consumer = platform.outgoing()
    found: list[dict[str, Any]] = []

    def completed() -> bool:
        for records in consumer.poll(timeout_ms=200).values():
            events = [json.loads(record.value) for record in records]
            found.extend(e for e in events if e["data"]["booking_id"] == str(trip.booking_id))
        return bool(found) and found[-1]["type"] == "tracking.completed"

    wait_until(completed, "tracking.completed")
    consumer.close()
    types = [event["type"] for event in found]
    assert types == ["tracking.started", *["tracking.updated"] * 3, "tracking.completed"]
    assert {event["source"] for event in found} == {"service-tracking"}
    assert {event["data"]["owner_id"] for event in found} == {str(trip.owner_id)}
    updated, finished = found[1]["data"], found[-1]["data"]
    assert (updated["latitude"], updated["longitude"]) == (-6.2, 106.8)
    assert finished["total_distance_km"] == pytest.approx(track(server, trip)["total_distance_km"])
    assert all(UUID(event["id"]) for event in found)


def test_offsets_are_committed_after_storing(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 5)
    topic = f"{platform.prefix}.runner.events"
    reader = KafkaConsumer(
        bootstrap_servers=platform.brokers, group_id=server.environ["KAFKA_GROUP_ID"]
    )
    places = [TopicPartition(topic, n) for n in reader.partitions_for_topic(topic) or ()]
    ends = reader.end_offsets(places)

    def all_committed() -> bool:
        return all((reader.committed(place) or 0) == ends[place] for place in places)

    wait_until(all_committed, "all offsets committed")
    reader.close()
    assert track(server, trip)["seq"] == 5


def test_metrics_follow_the_conventions(server: Server) -> None:
    text = server.get("/metrics")[1]
    promtool = shutil.which("promtool")
    assert promtool is not None, "install the Debian package prometheus, or run `make setup`"
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_health_and_readiness_say_what_the_platform_expects(server: Server) -> None:
    assert server.get("/health")[1] == {"status": "healthy", "service": "service-tracking"}
    status, body, _ = server.get("/readiness")
    checks = {name: answer.partition(",")[0] for name, answer in body["checks"].items()}
    assert (status, body["status"], set(checks.values())) == (200, "ready", {"ok"})
    assert "outgoing" in checks


def test_a_token_never_reaches_the_log(server: Server) -> None:
    token = server.token(uuid4(), "owner")
    server.get(f"{API}/{uuid4()}?token={token}")
    server.get(f"/nowhere/{token}")
    assert token.rsplit(".", 1)[1] not in server.log.read_text()


def test_sigterm_stores_and_commits_what_is_in_flight(
    database: dict[str, str], tmp_path: Path
) -> None:
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = stored_trip(server, platform, 300)
        assert server.stop(signal.SIGTERM) == 0
        server.start().wait_ready()
        assert track(server, trip)["seq"] == 300
        platform.update(trip, 1000)
        wait_seq(server, trip, 301)
        assert server.metric("tracking_events_total", outcome="duplicate") == 0
        platform.close()
        log = server.log.read_text()
    assert "Traceback" not in log


def test_a_restart_after_kill_shows_nothing_twice(database: dict[str, str], tmp_path: Path) -> None:
    # A static member takes its partitions back at once; another waits until its session is over.
    static = {"KAFKA_INSTANCE_ID": "one"}
    with running_server(database, tmp_path / "log", **static) as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = Trip()
        platform.accept(trip)
        for second in range(200):
            platform.update(trip, second)
            if second == 100:
                server.stop(signal.SIGKILL)
        server.start()
        assert len(wait_seq(server, trip, 200)["waypoints"]) == 200
        assert server.stop() == 0
        platform.close()


def test_the_server_does_not_migrate_by_itself(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = Server({**environ, "DB_NAME": "postgres", "SERVICE_PORT": "0"}, log)
    try:
        server.start()
        assert server.get("/health")[0] == 200
        status, body, _ = server.get("/readiness")
        assert status == 503
        assert "alembic upgrade head" in body["checks"]["schema"]
        assert server.process is not None
        assert server.process.poll() is None
    finally:
        server.stop()


def test_topics_that_appear_later_are_read(database: dict[str, str], tmp_path: Path) -> None:
    """kafka-python forgets a join that outlives one poll(): with luck once, not five times."""
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        for count, word in enumerate(("rated", "noted", "tipped", "moved", "asked"), 1):
            platform.send_raw(f"booking.{word}", b"{}")

            def read(count: int = count) -> bool:
                return server.metric("tracking_events_total", outcome="ignored") == count

            wait_until(read, f"topic {count} read")
        platform.close()


def test_a_process_that_shares_its_group_is_not_ready(server: Server, platform: Platform) -> None:
    other = KafkaConsumer(
        bootstrap_servers=platform.brokers, group_id=server.environ["KAFKA_GROUP_ID"]
    )
    other.subscribe(pattern=f"^{platform.prefix}\\.(booking|runner)\\.[a-z_]+$")

    def shared() -> bool:
        other.poll(timeout_ms=100)
        status, body, _ = server.get("/readiness")
        return status == 503 and "another member" in body["checks"]["kafka"]

    try:
        wait_until(shared, "not ready")
    finally:
        other.close(autocommit=False, timeout_ms=5000)
    server.wait_ready()


def test_a_port_that_is_taken_ends_the_process(database: dict[str, str]) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_server({**database, "SERVICE_PORT": port, "SERVICE_ADDRESS": "127.0.0.1"})
    assert result.returncode == 1
    assert f"cannot listen on port {port}" in result.stderr.splitlines()[-1]


def run_server(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program("server.py", *arguments, environ=environ)


def test_wrong_settings_are_told_all_at_once() -> None:
    result = run_server({"DB_PORT": "many", "JWT_SECRET": "short", "LOG_LEVEL": "loud"})
    lines = result.stderr.splitlines()
    assert result.returncode == 2
    assert [line.split(":")[0] for line in lines] == ["DB_PORT", "JWT_SECRET", "LOG_LEVEL"]
    assert "short" not in result.stderr


def test_help_explains_every_variable() -> None:
    text = run_server({}, "--help").stdout
    assert "SERVICE_PORT" in text
    assert "JWT_SECRET" in text
