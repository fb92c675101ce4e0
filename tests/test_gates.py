"""Who gets in: every route and kind of caller, every bad token, every limit; on a real server."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from handlers import routes
from tests.raw_sockets import RawSocket, frame, handshake
from tests.running import Platform, Server, Trip, running_server, wait_until
from tests.served import owner, stored_trip
from tests.test_receipts import KEY, private
from tests.test_tokens import INVALID, SECRET
from tracking.wire import fleet_protocol
from tracking.wire.protocol import SUBPROTOCOL

# Everybody may ask these; a new route is not among them, and so has to refuse.
PUBLIC = {"/health", "/readiness", "/metrics", "/api/v1/tracking/shared/{token}",
          "/ws/shared/{token}", "/api/v1/openapi.json", "/.well-known/jwks.json"}  # fmt: skip
GUARDED = sorted({str(spec.target.route) for spec in routes()} - PUBLIC)
ADMINS = [route for route in GUARDED if "/ops/" in route or route == "/ws/fleet"]
ROUTES = [route for route in GUARDED if route not in ADMINS]
# Whoever may, is told that the trip is not over.
OF_ENDED_TRIPS = {"/api/v1/tracking/{bookingId}/receipt"}
# A part of a token that is long enough to be nothing else.
TOKEN_PIECE = 20


@pytest.fixture(scope="module")
def gate(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Platform, Trip]]:
    """A server with the secret of the bad tokens, and one trip."""
    log: Path = tmp_path_factory.mktemp("gate") / "server.log"
    settings = {
        "JWT_SECRET": SECRET,
        "LOG_LEVEL": "debug",
        "ALLOWED_ORIGINS": "https://app.example",
        "REQUESTS_PER_SECOND": "0",
        "UNKNOWN_BOOKING_GRACE": "0",
        "RECEIPT_KEY": private(KEY),
    }
    with running_server({**database, **settings}, log) as server:
        server.secret = SECRET
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = stored_trip(server, platform, 2)
        server.wait_measured()
        yield server, platform, trip
        platform.close()


def path_of(route: str, booking_id: object) -> str:
    return re.sub(r"\{\w+\}", str(booking_id), route)


def method_of(route: str) -> str:
    if "/shares/" in route:
        return "DELETE"
    return "POST" if route.endswith("/share") else "GET"


def of_a_share(server: Server, trip: Trip, route: str) -> str:
    """With the id of a share link that is there, where one belongs."""
    if "{shareId}" not in route:
        return route
    path = f"/api/v1/tracking/{trip.booking_id}/share"
    link = server.get(path, owner(server, trip), "POST")[1]["data"]
    return route.replace("{shareId}", link["id"])


def ask(
    server: Server, route: str, booking_id: object, token: str | None,
    more: Mapping[str, str] = {}, *, v1: bool = False,
    place: str = "header",
) -> tuple[int, object]:  # fmt: skip
    """HTTP status and body of any route; of an upgraded socket 101 and its close code."""
    headers: dict[str, str | None] = dict(more)
    path = path_of(route, booking_id)
    if token is not None and place == "header":
        headers["Authorization"] = f"Bearer {token}"
    elif token is not None and place == "query":
        path += f"?token={quote(token)}"
    if route.startswith("/ws/"):
        named = fleet_protocol.SUBPROTOCOL if route == "/ws/fleet" else SUBPROTOCOL
        offered = [named] if v1 else []
        offered += [f"bearer.{token}"] if place == "subprotocol" else []
        headers["Sec-WebSocket-Protocol"] = ", ".join(offered) or None
        method = "GET"
    else:
        headers |= dict.fromkeys(("Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"))
        headers["Connection"] = "close"
        method = method_of(route)
    with RawSocket(server) as raw:
        status = raw.shake(handshake(path, headers, method=method))
        if status == 101:
            raw.send(frame(0x9))  # whoever is let in is answered
            return status, raw.end() if v1 or raw.next(0xA) is None else None
        return status, json.loads(raw.body()) if status >= 400 else {}


DENIED: dict[str, tuple[int, Callable[[Server, Trip], str | None]]] = {
    "no token": (401, lambda s, t: None),
    "expired": (401, lambda s, t: s.token(t.owner_id, "owner", lifetime=timedelta(hours=-1))),
    "a refresh token": (401, lambda s, t: s.token(t.owner_id, "owner", token_type="refresh")),
    "another owner": (404, lambda s, t: s.token(uuid4(), "owner")),
    "another runner": (404, lambda s, t: s.token(uuid4(), "runner")),
    "the owner as a shop": (404, lambda s, t: s.token(t.owner_id, "shop")),
    "the runner as an owner": (404, lambda s, t: s.token(t.runner_id, "owner")),
    "the owner as a runner": (404, lambda s, t: s.token(t.owner_id, "runner")),
}
CODE = {400: 4500, 401: 4501, 404: 4503}


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize("who", list(DENIED))
def test_every_route_denies_and_an_absent_booking_answers_the_same(
    gate: tuple[Server, Platform, Trip], route: str, who: str
) -> None:
    server, _, trip = gate
    expected, token_of = DENIED[who]
    token = token_of(server, trip)
    here, absent = (ask(server, route, each, token) for each in (trip.booking_id, uuid4()))
    assert here == absent
    assert here[0] == expected
    assert isinstance(here[1], dict)
    assert here[1]["success"] is False
    if route.startswith("/ws/"):
        kinds = {ask(server, route, each, token, v1=True) for each in (trip.booking_id, uuid4())}
        assert kinds == {(101, CODE[expected])}


@pytest.mark.parametrize("route", ADMINS)
def test_what_is_for_admins_is_there_for_nobody_else(
    gate: tuple[Server, Platform, Trip], route: str
) -> None:
    server, _, trip = gate
    for token in (owner(server, trip), server.token(trip.runner_id, "runner")):
        assert ask(server, route, trip.booking_id, token)[0] == 404
        if route.startswith("/ws/"):
            assert ask(server, route, trip.booking_id, token, v1=True) == (101, 4503)
        else:
            admin = server.token(uuid4(), "admin")
            assert ask(server, route, trip.booking_id, admin)[0] == 200


@pytest.mark.parametrize("route", GUARDED)
def test_a_share_link_opens_no_other_route(gate: tuple[Server, Platform, Trip], route: str) -> None:
    server, _, trip = gate
    body = server.get(f"/api/v1/tracking/{trip.booking_id}/share", owner(server, trip), "POST")[1]
    link = body["data"]["share_token"]
    assert ask(server, route, trip.booking_id, link)[0] == 401
    assert ask(server, route, link, None)[0] == 401


@pytest.mark.parametrize("route", ROUTES)
def test_whoever_may_is_let_in(gate: tuple[Server, Platform, Trip], route: str) -> None:
    """Or the tests above would prove nothing."""
    server, _, trip = gate
    route = of_a_share(server, trip, route)
    status, _ = ask(server, route, trip.booking_id, owner(server, trip))
    assert status in ((409,) if route in OF_ENDED_TRIPS else (101, 200, 201, 204))


PLACES = [(route, place, v1)
          for route in ROUTES
          for place in (("header", "query", "subprotocol") if "/ws/" in route else ("header",))
          for v1 in ((False, True) if "/ws/" in route else (False,))]  # fmt: skip


@pytest.mark.parametrize("name", list(INVALID))
def test_an_invalid_token_opens_nothing_anywhere(
    gate: tuple[Server, Platform, Trip], name: str
) -> None:
    server, _, trip = gate
    token = INVALID[name]()
    for route, place, v1 in [*PLACES, *((route, "header", False) for route in ADMINS)]:
        if place != "query" and not token.isascii():
            continue  # no header can hold it
        status, detail = ask(server, route, trip.booking_id, token, v1=v1, place=place)
        if len(token) > 16_000:
            assert status in (0, 400, 431)  # larger than any request's head
        else:
            assert (status, detail) == (101, 4501) if v1 else status == 401
        assert len(token) < TOKEN_PIECE or token[:TOKEN_PIECE] not in json.dumps(detail)
    log = server.log.read_text()
    assert " 500 " not in log
    assert "Traceback" not in log


LARGE: dict[str, Any] = {"groups": ["g" * 20] * 160, "iat": 4_000_000_000}


@pytest.mark.parametrize(("route", "place", "v1"), PLACES)
def test_a_token_of_5_kb_and_from_a_fast_clock_opens_every_route(
    gate: tuple[Server, Platform, Trip], route: str, place: str, v1: bool
) -> None:
    server, _, trip = gate
    token = server.token(trip.owner_id, "owner", **LARGE)
    assert len(token) > 5_000
    with RawSocket(server) as raw:
        more: dict[str, str | None] = {}
        if place == "subprotocol":
            more["Sec-WebSocket-Protocol"] = f"{SUBPROTOCOL}, " * v1 + f"bearer.{token}"
        elif v1:
            more["Sec-WebSocket-Protocol"] = SUBPROTOCOL
        if place == "header":
            more["Authorization"] = f"Bearer {token}"
        path = path_of(of_a_share(server, trip, route), trip.booking_id)
        path += f"?token={token}" * (place == "query")
        method = method_of(route)
        status = raw.shake(handshake(path, more, method=method))
        usual = {"GET": 200, "POST": 201, "DELETE": 204}[method]
        usual = 409 if route in OF_ENDED_TRIPS else usual
        assert status == (101 if route.startswith("/ws/") else usual)
        if v1:  # and it can be renewed with such a one
            raw.send(frame(1, json.dumps({"type": "refresh", "token": token}).encode()))
            while b"heartbeat" not in (raw.next(1) or b""):
                pass


@pytest.mark.parametrize("v1", [False, True], ids=["plain", "tracking.v1"])
def test_two_different_tokens_are_none(gate: tuple[Server, Platform, Trip], v1: bool) -> None:
    server, _, trip = gate
    one, two = owner(server, trip), server.token(trip.owner_id, "owner", jti="other")
    route = "/ws/tracking/{bookingId}"
    more = {"Authorization": f"Bearer {one}"}
    found = ask(server, route, trip.booking_id, two, more, v1=v1, place="query")
    assert found[0] == (101 if v1 else 401)
    assert not v1 or found[1] == 4501
    same = {"Authorization": f"Bearer {two}"}
    if not v1:
        assert ask(server, route, trip.booking_id, two, same, place="query")[0] == 101


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://app.example", 101), ("https://evil.example", 403), ("null", 403),
     ("https://app.example.evil.example", 403), ("http://app.example", 403),
     ("http://[", 400), ("https://tracking.example", 101)],
)  # fmt: skip
def test_only_listed_origins_may_open_a_socket(
    gate: tuple[Server, Platform, Trip], origin: str, status: int
) -> None:
    server, _, trip = gate
    path = f"/ws/tracking/{trip.booking_id}?token={owner(server, trip)}"
    with RawSocket(server) as raw:
        assert raw.shake(handshake(path, {"Origin": origin})) == status


def test_no_token_is_ever_logged(gate: tuple[Server, Platform, Trip]) -> None:
    server, _, trip = gate
    token = owner(server, trip)
    for route, place, v1 in PLACES:
        if not v1:
            ask(server, route, trip.booking_id, token, place=place)
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "all gone")
    with RawSocket.joined(server, trip.booking_id, token, v1=True) as raw:
        raw.send(frame(1, json.dumps({"type": "refresh", "token": token}).encode()))
        while b"heartbeat" not in (raw.next(1) or b"heartbeat"):
            pass
    log = server.log.read_text()
    assert "joined, plain" in log
    assert not [piece for piece in token.split(".")[1:] if piece[:TOKEN_PIECE] in log]


@pytest.fixture(scope="module")
def narrow(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Trip]]:
    """A server with small limits, behind a gateway that says whose address it is."""
    log: Path = tmp_path_factory.mktemp("narrow") / "server.log"
    limits = {"MAX_VIEWERS": "6", "MAX_VIEWERS_PER_USER": "3", "MAX_VIEWERS_PER_ADDRESS": "4",
              "JOINS_PER_SECOND": "1"}  # fmt: skip
    with running_server(database, log, **limits) as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        yield server, stored_trip(server, platform)
        platform.close()


def join(
    server: Server, trip: Trip, address: str, token: str, *, v1: bool = False
) -> tuple[RawSocket, int]:
    raw = RawSocket(server)
    headers: dict[str, str | None] = {"X-Forwarded-For": address}
    headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL if v1 else None
    return raw, raw.shake(handshake(f"/ws/tracking/{trip.booking_id}?token={token}", headers))


@pytest.mark.parametrize(
    ("address", "user", "status", "code", "reason"),
    [
        ("10.0.0.1", "mine", 429, 4504, "too_many_connections"),  # of this user
        ("10.0.0.2", "new", 429, 4504, "too_many_connections"),  # from this address
        ("10.0.0.3", "new", 503, 1013, "full"),
    ],
)
def test_a_limit_refuses_with_its_own_status_and_code(
    narrow: tuple[Server, Trip], address: str, user: str, status: int, code: int, reason: str
) -> None:
    server, trip = narrow
    mine = server.token(uuid4(), "admin")
    token = mine if user == "mine" else server.token(uuid4(), "admin")
    people: list[tuple[str, str | None]] = [("10.0.1.1", mine)] * 3
    if user == "new":
        people = [("10.0.0.2", None)] * 4
    if status == 503:
        people = [(f"10.1.0.{number}", None) for number in range(6)]
    inside = [join(server, trip, where, who or server.token(uuid4(), "admin"))
              for where, who in people]  # fmt: skip
    assert {found for _, found in inside} == {101}
    before = server.metric("tracking_joins_total", outcome=reason)
    raw, found = join(server, trip, address, token)
    assert found == status
    assert b"retry-after: " in raw.head.lower()
    raw.socket.close()
    other, found = join(server, trip, address, token, v1=True)
    assert (found, other.end()) == (101, code)
    other.socket.close()
    assert server.metric("tracking_joins_total", outcome=reason) == before + 2
    for each, _ in inside:
        each.socket.close()
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "all gone")
    again, found = join(server, trip, address, token)
    assert found == 101
    again.socket.close()
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "all gone")


def test_too_many_joins_at_once_are_told_when_to_come_back(narrow: tuple[Server, Trip]) -> None:
    server, trip = narrow
    statuses = []
    for _ in range(15):
        raw, status = join(server, trip, "10.9.9.9", "nonsense")
        statuses.append(status)
        raw.socket.close()
    assert statuses[:10] == [401] * 10
    assert 429 in statuses[10:]
    raw, status = join(server, trip, "10.9.9.9", owner(server, trip), v1=True)
    assert (status, raw.end()) == (101, 4429)
    raw.socket.close()
    other, status = join(server, trip, "10.9.9.8", "nonsense")
    assert status == 401
    other.socket.close()


def test_limits_hold_for_those_who_come_at_once(narrow: tuple[Server, Trip]) -> None:
    """Checked and counted in one step: none slips in between."""
    server, trip = narrow
    token: Any = server.token(uuid4(), "admin")
    path = f"/ws/tracking/{trip.booking_id}?token={token}"
    crowd = [RawSocket(server) for _ in range(9)]
    for number, raw in enumerate(crowd):
        raw.send(handshake(path, {"X-Forwarded-For": f"10.7.0.{number}"}))
    assert sorted(raw.shake(b"") for raw in crowd) == [101] * 3 + [429] * 6
    for raw in crowd:
        raw.socket.close()
