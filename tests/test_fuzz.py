"""Nonsense on every door: no 500, no traceback, no leak, and the server goes on.

FUZZ_SECONDS says how long each part lasts, FUZZ_SEED repeats one that failed.
"""

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from dev.tokens import access_token
from tests.raw_sockets import RawSocket, close_frame, frame, handshake
from tests.running import Platform, Server, Trip, running_server, wait_until
from tests.served import owner, stored_trip, wait_seq

SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("FUZZ_SEED", str(random.randrange(10**9))))
PATIENCE_S = 0.2
NUMBERS = ("-1", "0", "1", "1e3", "9" * 18, "9" * 40, "", "x", "%C2%B2", "%00")
PROTOCOLS = (None, ",", "tracking.v1", "tracking.v1, bearer.x", "bearer.x", "tracking.v2")


@pytest.fixture(scope="module")
def stage(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Platform, Trip]]:
    log: Path = tmp_path_factory.mktemp("fuzz") / "server.log"
    with running_server(database, log, JOINS_PER_SECOND="0", LOG_LEVEL="debug") as server:
        brokers, prefix = server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"]
        with closing(Platform(brokers, prefix)) as platform:
            yield server, platform, stored_trip(server, platform, 3)


class Nonsense:
    """One seed's inputs: good ones, bent."""

    def __init__(self, seed: int, server: Server, trip: Trip) -> None:
        self.random, self.server, self.trip = random.Random(seed), server, trip

    def bent(self, data: bytes) -> bytes:
        """Some bytes flipped, cut, repeated or put in."""
        rng, bent = self.random, bytearray(data)
        for _ in range(rng.choice((0, 1, 1, 2, 8))):
            at = rng.randrange(len(bent) + 1)
            what = rng.randrange(4)
            if what == 0 and at < len(bent):
                bent[at] ^= 1 << rng.randrange(8)
            elif what == 1:
                del bent[at : at + rng.randrange(1, 20)]
            elif what == 2:
                bent[at:at] = rng.randbytes(rng.randrange(1, 20))
            else:
                bent[at:at] = bent[at : at + rng.randrange(1, 50)]
        return bytes(bent)

    def token(self) -> str:
        good = owner(self.server, self.trip)
        if self.random.random() < 0.4:
            return good
        if self.random.random() < 0.5:
            return self.bent(good.encode()).decode("latin-1")
        claims = {
            name: self.value() for name in ("exp", "nbf", "iat", "iss", "sub", "user_id", "role")
            if self.random.random() < 0.3
        }  # fmt: skip
        with suppress(TypeError, ValueError):
            return access_token(self.server.secret, self.trip.owner_id, "owner", **claims)
        return good

    def value(self) -> Any:
        return self.random.choice(
            [None, True, -1, 0, 1e400, 2**70, "", "x" * 5000, [], {}, [[]], "\x00", "\ud800é", 1.5]
        )

    def message(self) -> bytes:
        good = {"type": self.random.choice(["catch_up", "refresh", "other"]),
                "since_seq": self.random.choice([0, 1, 2**53, self.value()]),
                "token": self.random.choice([self.token(), self.value()])}  # fmt: skip
        keys = self.random.sample(list(good), self.random.randrange(4))
        with suppress(ValueError):
            return self.bent(json.dumps({key: good[key] for key in keys}).encode())
        return b"{}"

    def frames(self) -> bytes:
        rng = self.random
        made = b"".join(
            frame(rng.choice((0, 1, 1, 1, 2, 8, 9, 10, rng.randrange(16))), self.message(),
                  fin=rng.random() < 0.8, masked=rng.random() < 0.95,
                  reserved=rng.choice((0, 0, 0, 0, rng.randrange(8))))
            for _ in range(rng.randrange(1, 6))
        )  # fmt: skip
        return rng.choice((made, self.bent(made), rng.randbytes(rng.randrange(300))))

    def request(self) -> bytes:
        rng, booking = self.random, str(self.trip.booking_id)
        path = rng.choice(
            [f"/ws/tracking/{booking}", f"/api/v1/tracking/{booking}", "/health", "/metrics",
             f"/api/v1/tracking/{booking}/route", f"/api/v1/tracking/{booking}/share",
             "/api/v1/tracking/shared/x", "/api/v1/tracking/shared/%00", "*", "//", "/%00",
             f"/ws/tracking/{rng.randbytes(8).hex()}", "/api/v1/tracking/%ff", "/ws/tracking/%00"]
        )  # fmt: skip
        query = rng.choice(["", f"?since_seq={rng.choice(NUMBERS)}", "?token=%ff",
                            "?epoch=%00&since_seq=1",
                            "?token=a&token=b", "?min_interval_ms=9&since_seq=1"])  # fmt: skip
        headers: dict[str, str | None] = {
            "Sec-WebSocket-Protocol": rng.choice(PROTOCOLS),
            "Authorization": rng.choice([None, "Bearer", "Basic x", "Bearer x y"]),
            "If-None-Match": rng.choice([None, "*", '"', 'W/"a-1-0"']),
            "X-Forwarded-For": rng.choice([None, "1.2.3.4", "nonsense", "::1, 5.6.7.8"]),
            "X-Request-ID": rng.choice([None, "x" * 100, "a b"]),
            "Content-Length": rng.choice([None, None, None, "0", "-1", "99999999999", "x"]),
            "Origin": rng.choice([None, None, "null", "https://a.b"]),
        }  # fmt: skip
        if rng.random() < 0.5:
            headers["Authorization"] = f"Bearer {owner(self.server, self.trip)}"
        method = rng.choice(["GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "BREW"])
        version = rng.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTCPCP/1"])
        made = handshake(path + query.replace(" ", ""), headers, version, method)
        return rng.choice((made, self.bent(made)))


def tell(raw: RawSocket, *parts: bytes) -> bytes:
    """Say these, listen for a moment; the first line of what came."""
    with suppress(OSError):
        for part in parts:
            raw.send(part)
        raw.socket.settimeout(PATIENCE_S)
        while raw._receive():
            pass
    return bytes(raw._read).partition(b"\r\n")[0]


def requests(nonsense: Nonsense) -> None:
    with RawSocket(nonsense.server) as raw:
        assert b" 500 " not in tell(raw, nonsense.request())


def tokens(nonsense: Nonsense) -> None:
    token = re.sub(r"[^\x21-\x7e]", "?", nonsense.token())
    path = f"/api/v1/tracking/{nonsense.trip.booking_id}"
    try:
        status, _, _ = nonsense.server.get(path, None, Authorization=f"Bearer {token}")
    except ConnectionError:  # Tornado hangs up on a head that is larger than 16 KiB
        assert len(token) > 15_000
    else:
        assert status in (200, 400, 401)


def frames(nonsense: Nonsense) -> None:
    v1 = nonsense.random.random() < 0.7
    server, trip = nonsense.server, nonsense.trip
    with RawSocket.joined(server, trip.booking_id, owner(server, trip), v1=v1) as raw:
        tell(raw, *(nonsense.frames() for _ in range(3)))


def messages(nonsense: Nonsense) -> None:
    server, trip = nonsense.server, nonsense.trip
    joined = RawSocket.joined(server, trip.booking_id, owner(server, trip), v1=True)
    with joined as raw, suppress(OSError):
        for _ in range(3):
            raw.send(frame(1, nonsense.message()))
        raw.send(frame(9, b"end") + close_frame(1000))
        code = raw.end()
        assert code in (1000, 1007, 4500, 4501), code


@pytest.mark.parametrize("part", [requests, tokens, frames, messages], ids=lambda p: p.__name__)
@pytest.mark.timeout(SECONDS + 100)
def test_nonsense_hurts_nobody(
    stage: tuple[Server, Platform, Trip], part: Callable[[Nonsense], None]
) -> None:
    server, platform, trip = stage
    seed, count, end = SEED, 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        print(f"FUZZ_SEED={seed}")
        part(Nonsense(seed, server, trip))
        seed, count = seed + 1, count + 1
    assert count > 5
    assert server.process is not None
    assert server.process.poll() is None
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "the gauge at nothing", 40)
    assert server.metric("tracking_rooms") == 0
    log = server.log.read_text()
    assert "Traceback" not in log
    assert server.metric("tracking_http_requests_total", status="500") == 0
    head = server.get(f"/api/v1/tracking/{trip.booking_id}", owner(server, trip))[1]["data"]["seq"]
    platform.update(trip, 100 + head)
    wait_seq(server, trip, head + 1)
