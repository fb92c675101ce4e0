"""What HTTP asks of every route: HEAD, targets in absolute form, conditions, addresses, ports."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import pytest
import sqlalchemy as sa

from handlers import management_routes, public_routes, routes
from handlers.api.tracks import is_named
from tests.raw_sockets import CLOSE, RawSocket, handshake
from tests.running import Platform, Server, Trip, running_server, started_server, wait_until
from tests.served import API, owner, stored_trip
from tests.test_store_ingest import accepted, update
from tracking.store.ingest.batch import store_batch
from tracking.wire.protocol import SUBPROTOCOL

PLAIN: dict[str, str | None] = dict.fromkeys(
    ("Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
) | {"Connection": "close"}


def ask(server: Server, target: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """The status and everything behind it, as the wire has it."""
    with RawSocket(server) as raw:
        status = raw.shake(handshake(target, {**PLAIN, **headers}, method=method))
        return status, raw.body()


@pytest.fixture(scope="module")
def trip(server: Server, platform: Platform) -> Trip:
    return stored_trip(server, platform, 2)


@pytest.mark.parametrize("route", sorted({str(spec.target.route) for spec in routes()}))
def test_head_is_get_without_its_body(server: Server, trip: Trip, route: str) -> None:
    token = owner(server, trip)
    share = server.get(f"{API}/{trip.booking_id}/share", token, "POST")[1]["data"]
    path = route.replace("{bookingId}", str(trip.booking_id))
    path = path.replace("{token}", share["share_token"]).replace("{shareId}", share["id"])
    got, _, expected = server.get(path, token)
    status, body, headers = server.get(path, token, "HEAD")
    assert (status, body) == (got, b"")
    assert headers["Content-Type"] == expected["Content-Type"]
    if "/metrics" not in path and status == 200:
        assert headers.get("ETag") == expected.get("ETag")
    if "Content-Length" in headers and "/metrics" not in path and "Content-Length" in expected:
        assert headers["Content-Length"] == expected["Content-Length"]
    if expected.get("Transfer-Encoding") == "chunked":
        assert "Content-Length" not in headers
    if got == 405:
        assert "HEAD" not in headers["Allow"]


@pytest.mark.parametrize("path", ["", "/route"])
def test_head_reads_no_page_of_the_route(server: Server, trip: Trip, path: str) -> None:
    def pages() -> float:
        return server.metric("tracking_database_calls_total", function="page")

    token, before = owner(server, trip), pages()
    assert server.get(f"{API}/{trip.booking_id}{path}", token, "HEAD")[0] == 200
    assert pages() == before
    assert server.get(f"{API}/{trip.booking_id}{path}", token)[0] == 200
    assert pages() > before


def test_head_is_among_the_methods_that_are_allowed(server: Server) -> None:
    assert server.get("/health", None, "POST")[2]["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "target", ["http://tracking.example/health", "HTTPS://x:8005/health?a=b", "/health"]
)
def test_a_target_may_be_in_absolute_form(server: Server, target: str) -> None:
    status, body = ask(server, target)
    assert (status, json.loads(body)["status"]) == (200, "healthy")


def test_an_absolute_form_without_a_path_is_the_root(server: Server) -> None:
    assert ask(server, "http://tracking.example")[0] == 404


def test_an_empty_token_beside_a_header_is_none(server: Server, trip: Trip) -> None:
    token = owner(server, trip)
    assert server.get(f"{API}/{trip.booking_id}?token=", token)[0] == 200
    assert server.get(f"{API}/{trip.booking_id}?token=")[0] == 401


@pytest.mark.parametrize(
    ("if_none_match", "is_there"),
    [
        ('W/"a-1-0"', True), ('"a-1-0"', True), ("*", True), (" * ", True),
        ('"x", W/"a-1-0"', True), ('"x","a-1-0","y"', True), ('"x, y" , "a-1-0"', True),
        ("", False), ('"a-1-1"', False), ("a-1-0", False), ('"a-1-0', False), ('"*"', False),
    ],
)  # fmt: skip
def test_an_entity_tag_is_compared_weakly(if_none_match: str, is_there: bool) -> None:
    assert is_named('W/"a-1-0"', if_none_match) is is_there


@pytest.mark.parametrize("path", ["", "/route"])
def test_whoever_has_it_already_is_told_so(server: Server, trip: Trip, path: str) -> None:
    token, target = owner(server, trip), f"{API}/{trip.booking_id}{path}"
    etag = server.get(target, token)[2]["ETag"]
    for known in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
        assert server.get(target, token, **{"If-None-Match": known})[0] == 304
    assert server.get(target, token, **{"If-None-Match": '"x"'})[0] == 200


def test_a_route_across_the_antimeridian_is_cut_there(server: Server, platform: Platform) -> None:
    fiji = Trip()
    platform.accept(fiji)
    for second, longitude in ((0, 179.9995), (10, -179.999)):
        platform.update(fiji, second, longitude=longitude, latitude=-16.8)
    path = f"{API}/{fiji.booking_id}/route"

    def both() -> Any:
        status, route, _ = server.get(path, owner(server, fiji))
        return route if status == 200 and route["properties"]["seq"] == 2 else None

    route = wait_until(both, "both waypoints")
    assert route["geometry"] == {
        "type": "MultiLineString",
        "coordinates": [
            [[179.9995, -16.8], [180.0, -16.8]],
            [[-180.0, -16.8], [-179.999, -16.8]],
        ],
    }
    assert route["bbox"] == [179.9995, -16.8, -179.999, -16.8]
    assert [len(line) for line in route["properties"]["coordTimes"]] == [2, 2]
    slice_ = server.get(f"{path}?since_seq=1", owner(server, fiji))[1]
    assert slice_["geometry"]["type"] == "Point"


@pytest.fixture(scope="module")
def strict(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Trusts one network, lets an address ask ten times at once, has a port for machines."""
    log: Path = tmp_path_factory.mktemp("strict") / "server.log"
    settings = {"TRUSTED_PROXIES": "127.0.0.0/8", "REQUESTS_PER_SECOND": "1",
                "MANAGEMENT_PORT": "0", "MANAGEMENT_ADDRESS": "127.0.0.1"}  # fmt: skip
    with running_server(database, log, **settings) as server:
        yield server


def statuses(server: Server, times: int, **headers: str) -> list[int]:
    return [server.get("/api/v1/openapi.json", **headers)[0] for _ in range(times)]


def test_an_address_that_asks_too_fast_is_told_when_to_come_back(strict: Server) -> None:
    flooder = {"X-Forwarded-For": "203.0.113.1:41123"}
    found = statuses(strict, 15, **flooder)
    assert found[:10] == [200] * 10
    assert 429 in found
    status, body, headers = strict.get(f"{API}/shared/nonsense", None, **flooder)
    assert (status, body["success"], headers["Retry-After"]) == (429, False, "2")
    assert strict.get("/health", **flooder)[0] == 200
    other_port = {"X-Forwarded-For": "198.51.100.1, 203.0.113.1:999"}
    assert statuses(strict, 1, **other_port) == [429]
    believed = {"X-Forwarded-For": "203.0.113.2", "X-Real-Ip": "203.0.113.1"}
    assert statuses(strict, 1, **believed) == [200]


def test_metrics_and_readiness_have_a_port_of_their_own(strict: Server) -> None:
    for path, status in (("/metrics", 404), ("/readiness", 404), ("/health", 200)):
        assert ask(strict, path, **{"X-Forwarded-For": "203.0.113.99"})[0] == status
    assert [strict.get(path)[0] for path in ("/metrics", "/readiness")] == [200, 200]
    with urlopen(f"http://127.0.0.1:{strict.management_port}/health") as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"http://127.0.0.1:{strict.management_port}/api/v1/openapi.json")
    everywhere = {spec.regex.pattern for spec in [*public_routes(), *management_routes()]}
    assert everywhere == {spec.regex.pattern for spec in routes()}


def test_a_booking_that_may_still_turn_up_stops_no_viewer(strict: Server) -> None:
    """Unknown and another's alike: come back, and not "stop for good"."""
    token: Any = strict.token(uuid4(), "owner")
    path = f"/ws/tracking/{uuid4()}?token={token}"
    address = {"X-Forwarded-For": "203.0.113.55"}
    with RawSocket(strict) as raw:
        assert raw.shake(handshake(path, {**address})) == 503
        assert b"retry-after: " in raw.head.lower()
    with RawSocket(strict) as raw:
        assert raw.shake(handshake(path, {**address, "Sec-WebSocket-Protocol": SUBPROTOCOL})) == 101
        assert raw.end() == 1013
    assert strict.get(f"{API}/{uuid4()}", token, **address)[0] == 404


def refused(server: Server, booking_id: object, token: str) -> tuple[set[bytes], bytes, Any]:
    """All that the plain stream and `tracking.v1` tell, but for the request's own id."""
    path = f"/ws/tracking/{booking_id}?token={token}"
    with RawSocket(server) as raw:
        raw.shake(handshake(path, {"X-Request-ID": "same"}))
        head = {line for line in raw.head.splitlines() if not line.startswith(b"Date: ")}
        body = raw.body()
    with RawSocket(server) as raw:
        assert raw.shake(handshake(path, {"Sec-WebSocket-Protocol": SUBPROTOCOL})) == 101
        return head, body, raw.next(CLOSE)


def test_while_we_may_be_behind_anothers_booking_is_as_one_that_nobody_knows(
    database: dict[str, str], engine: sa.Engine, tmp_path: Path
) -> None:
    """Of a booking that exists a stranger learns nothing, and its owner gets in."""
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 1)])
    blind = {"KAFKA_BROKERS": "127.0.0.1:1", "UNKNOWN_BOOKING_GRACE": "0"}
    with started_server(database, tmp_path / "log", **blind) as server:
        stranger = server.token(uuid4(), "owner")
        head, body, close = refused(server, trip.booking_id, stranger)
        assert b"HTTP/1.1 503 Service Unavailable" in head
        assert close is not None
        assert int.from_bytes(close[:2]) == 1013
        unknown = refused(server, uuid4(), stranger)
        assert unknown == (head, body, close)
        with RawSocket.joined(server, trip.booking_id, owner(server, trip)):
            assert refused(server, trip.booking_id, stranger) == unknown
