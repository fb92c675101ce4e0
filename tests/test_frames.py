"""handlers.websocket.frames, and the handshake before it: what RFC 6455 asks, on raw sockets."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raw_sockets import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    RESET,
    TEXT,
    RawSocket,
    close_frame,
    frame,
    handshake,
)
from tests.running import Platform, Server, Trip, wait_until
from tests.served import owner, stored_trip

MAX_MESSAGE = 16 << 10
CATCH_UP = b'{"type": "catch_up", "since_seq": 0}'


@pytest.fixture(scope="module")
def trip(server: Server, platform: Platform) -> Trip:
    return stored_trip(server, platform, 2)


@pytest.fixture(params=["plain", "tracking.v1"])
def raw(request: pytest.FixtureRequest, server: Server, trip: Trip) -> Iterator[RawSocket]:
    """Joined, the first message read."""
    v1 = request.param == "tracking.v1"
    with RawSocket.joined(server, trip.booking_id, owner(server, trip), v1=v1) as made:
        first = made.next(TEXT)
        assert first is not None
        yield made


@pytest.fixture
def v1(server: Server, trip: Trip) -> Iterator[RawSocket]:
    token = owner(server, trip)
    with RawSocket.joined(server, trip.booking_id, token, v1=True, query="&history=none") as made:
        first = made.next(TEXT)
        assert first is not None
        yield made


@pytest.fixture(autouse=True, scope="module")
def _nothing_leaks(server: Server, trip: Trip) -> Iterator[None]:
    descriptors = open_descriptors(server)
    yield
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "every room left")
    wait_until(lambda: open_descriptors(server) <= descriptors + 3, "every descriptor given back")
    assert "Traceback" not in server.log.read_text()


def open_descriptors(server: Server) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def answered(raw: RawSocket) -> bool:
    """It still speaks with us."""
    raw.send(frame(PING, b"still there?"))
    return raw.next(PONG) == b"still there?"


GOOD = {
    "a message in fragments": [frame(TEXT, CATCH_UP[:5], fin=False), frame(0, CATCH_UP[5:])],
    "an empty fragment": [
        frame(TEXT, b"", fin=False), frame(0, CATCH_UP, fin=False), frame(0, b""),
    ],
    "a character cut in two": [
        frame(TEXT, b'{"type": "catch_up", "since_seq": 0, "x": "\xc3', fin=False),
        frame(0, b'\xa4"}'),
    ],
    "a ping between fragments": [
        frame(TEXT, CATCH_UP[:5], fin=False), frame(PING, b"now"), frame(0, CATCH_UP[5:]),
    ],
    "a pong that nobody asked for": [frame(PONG, b"unasked")],
    "a binary message that is one": [frame(BINARY, CATCH_UP)],
    "byte by byte": [bytes((byte,)) for byte in frame(TEXT, CATCH_UP)],
}  # fmt: skip


@pytest.mark.parametrize("frames", GOOD.values(), ids=list(GOOD))
def test_what_the_rfc_allows_is_taken(v1: RawSocket, frames: list[bytes]) -> None:
    for each in frames:
        v1.send(each)
    if "catch_up" in repr(frames) or len(frames) > 1:
        text = v1.next(TEXT)
        assert text is not None
        assert json.loads(text)["type"] == "backfill"
    assert answered(v1)


@pytest.mark.parametrize("payload", [b"", b"\x00\xff", b"x" * 125])
def test_a_pong_echoes_its_ping(raw: RawSocket, payload: bytes) -> None:
    raw.send(frame(PING, payload))
    assert raw.next(PONG) == payload


BAD = {
    "unmasked": (1002, [frame(TEXT, CATCH_UP, masked=False)]),
    "unmasked ping": (1002, [frame(PING, b"", masked=False)]),
    "unmasked close": (1002, [frame(CLOSE, b"", masked=False)]),
    **{f"reserved bits {n}": (1002, [frame(TEXT, CATCH_UP, reserved=n)]) for n in range(1, 8)},
    **{
        f"opcode {n}": (1002, [frame(n, CATCH_UP)])
        for n in (0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF)
    },
    "ping that is too long": (1002, [frame(PING, b"x" * 126)]),
    "close that is too long": (1002, [frame(CLOSE, b"\x03\xe8" + b"x" * 124)]),
    "ping in fragments": (1002, [frame(PING, b"x", fin=False)]),
    "close in fragments": (1002, [frame(CLOSE, b"", fin=False)]),
    "continuation of nothing": (1002, [frame(0, CATCH_UP)]),
    "a message within another": (1002, [frame(TEXT, b"{", fin=False), frame(TEXT, CATCH_UP)]),
    "bad UTF-8": (1007, [frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80")]),
    "bad UTF-8 in fragments": (1007, [frame(TEXT, b"\xce", fin=False), frame(0, b"\xce")]),
    "oversized": (1009, [frame(TEXT, b" " * (MAX_MESSAGE + 1))]),
    "oversized in fragments": (1009, [frame(TEXT, b" " * 8000, fin=False)] * 1
                               + [frame(0, b" " * 8000, fin=False), frame(0, b" " * 8000)]),
    "announced as huge": (1009, [b"\x81\xff" + b"\x7f" + b"\xff" * 7]),
    "an impossible length": (1009, [b"\x81\xff" + b"\xff" * 8]),
    "close of one byte": (1002, [frame(CLOSE, b"\x03")]),
    **{
        f"close code {code}": (1002, [close_frame(code)])
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "close with bad UTF-8": (1007, [close_frame(1000, b"\xff")]),
}  # fmt: skip


@pytest.mark.parametrize(("code", "frames"), BAD.values(), ids=list(BAD))
def test_what_the_rfc_forbids_ends_in_its_code(
    raw: RawSocket, code: int, frames: list[bytes]
) -> None:
    for each in frames:
        raw.send(each)
    assert raw.end() == code


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]
)
def test_a_close_is_answered_with_its_code(raw: RawSocket, code: int) -> None:
    raw.send(close_frame(code, "vollständig".encode()))
    assert raw.end() == code


def test_a_close_without_a_code_is_answered_without_one(raw: RawSocket) -> None:
    raw.send(frame(CLOSE))
    assert raw.end() == 1005


def test_nothing_is_answered_after_a_close(raw: RawSocket) -> None:
    raw.send(close_frame(1000) + frame(PING, b"late") + close_frame(1001))
    assert raw.end() == 1000
    assert not [opcode for opcode, _ in raw.frames if opcode == PONG]


def test_the_first_fault_decides(raw: RawSocket) -> None:
    raw.send(frame(TEXT, b"\xff") + frame(TEXT, b"x", masked=False) + os.urandom(5000))
    assert raw.end() == 1007


def test_a_half_closed_socket_is_left(server: Server, raw: RawSocket) -> None:
    before = server.metric("tracking_subscribers")
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.end() is None
    wait_until(lambda: server.metric("tracking_subscribers") == before - 1, "left")


def test_clients_that_are_gone_before_they_are_let_in_are_forgotten(
    server: Server, trip: Trip
) -> None:
    """Nothing in the log, no room, no descriptor: the module's end looks."""
    request = handshake(f"/ws/tracking/{trip.booking_id}?token={owner(server, trip)}", {})
    for number in range(300):
        with RawSocket(server) as gone:
            gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            gone.send(request)
            time.sleep(number % 30 / 3000)  # at another instant each time


def test_a_broken_frame_is_hung_up_on_though_the_client_stays(
    server: Server, raw: RawSocket
) -> None:
    """It has its close frame; it neither answers nor hangs up, and goes on sending."""
    before = server.metric("tracking_subscribers")
    raw.send(frame(TEXT, b"x", masked=False))
    assert raw.next(CLOSE) == b"\x03\xeaprotocol error"
    wait_until(lambda: server.metric("tracking_subscribers") == before - 1, "left at once")

    def is_reset() -> bool:
        try:
            raw.send(b"x" * 1000)
        except OSError:
            return True
        return False

    wait_until(is_reset, "hung up after five seconds", 8)


REFUSED: dict[str, tuple[int, dict[str, str | None], dict[str, str]]] = {
    "no key": (400, {"Sec-WebSocket-Key": None}, {}),
    "a short key": (400, {"Sec-WebSocket-Key": "AAAA"}, {}),
    "a key that is no base64": (400, {"Sec-WebSocket-Key": "!" * 24}, {}),
    "no version": (426, {"Sec-WebSocket-Version": None}, {}),
    "version 8": (426, {"Sec-WebSocket-Version": "8"}, {}),
    "version 99": (426, {"Sec-WebSocket-Version": "99"}, {}),
    "no upgrade": (400, {"Upgrade": None}, {}),
    "another upgrade": (400, {"Upgrade": "h2c"}, {}),
    "no connection": (400, {"Connection": None}, {}),
    "keep-alive": (400, {"Connection": "keep-alive"}, {}),
    "HTTP/1.0": (400, {}, {"version": "HTTP/1.0"}),
    "no host": (400, {"Host": None}, {}),
    "POST": (405, {"Content-Length": "0"}, {"method": "POST"}),
    "another subprotocol": (400, {"Sec-WebSocket-Protocol": "graphql-ws"}, {}),
    "a foreign origin": (403, {"Origin": "https://evil.example"}, {}),
}


@pytest.mark.parametrize("v1", [False, True], ids=["plain", "tracking.v1"])
@pytest.mark.parametrize(("status", "headers", "line"), REFUSED.values(), ids=list(REFUSED))
def test_a_handshake_that_is_none_is_refused(
    server: Server, trip: Trip, status: int, headers: dict[str, str | None], line: dict[str, str],
    v1: bool,
) -> None:  # fmt: skip
    if v1:
        headers = {"Sec-WebSocket-Protocol": "tracking.v1", **headers}
    path = f"/ws/tracking/{trip.booking_id}?token={owner(server, trip)}"
    with RawSocket(server) as raw:
        found = raw.shake(handshake(path, headers, **line))
        # A client of tracking.v1 reads a refusal as a close code where it can be upgraded at all.
        assert found == status
        if status == 426:
            assert b"sec-websocket-version: 13" in raw.head.lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket", "Connection": "upgrade"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec-WebSocket-Extensions": "x-unknown; a=b, y"},
        {"Sec-WebSocket-Protocol": "tracking.v1, bearer.TOKEN"},
        {"Origin": "https://app.example"},
    ],
)
def test_what_clients_may_add_is_no_obstacle(
    server: Server, trip: Trip, headers: dict[str, str]
) -> None:
    token = owner(server, trip)
    headers = {name: value.replace("TOKEN", token) for name, value in headers.items()}
    with RawSocket(server) as raw:
        path = f"/ws/tracking/{trip.booking_id}?token={token}"
        assert raw.shake(handshake(path, headers)) == 101
        assert b"Sec-WebSocket-Extensions" not in raw.head
        assert raw.next(TEXT)


def test_slow_handshakes_hinder_nobody(server: Server, trip: Trip) -> None:
    """Half a request, a byte now and then: others go on meanwhile."""
    path = f"/ws/tracking/{trip.booking_id}?token={owner(server, trip)}"
    request = handshake(path, {})
    slow = [RawSocket(server) for _ in range(int(os.environ.get("SLOW_HANDSHAKES", "100")))]
    took = []
    for byte in request[:20]:
        for raw in slow:
            raw.send(bytes((byte,)))
        start = time.monotonic()
        assert server.get("/health")[0] == 200
        took.append(time.monotonic() - start)
    assert sorted(took)[-2] < 1  # a shared machine; alone it is a few milliseconds
    slow[0].send(request[20:])
    assert slow[0].shake(b"") == 101
    for raw in slow:
        raw.socket.close()
