"""Viewers that stop reading, flood, vanish or all come back at once; a server without descriptors.

VIEWER_FAULTS scales them: 1 in CI; 12 is 500 stalled viewers, and waits for half-open peers; 50 is
a storm of 10,000.
"""

import asyncio
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from uuid import UUID

import pytest

from tests.raw_sockets import BINARY, PING, PONG, TEXT, RawSocket, frame, handshake
from tests.running import (
    Platform,
    Server,
    Trip,
    envelope,
    fresh_database,
    running_server,
    wait_until,
)
from tests.served import owner, stored_trip, wait_seq
from tests.test_churn import Phone

SCALE = int(os.environ.get("VIEWER_FAULTS", "1"))
STALLED = 42 * SCALE
STORM = 200 * SCALE
STEP = 100  # updates at once: a healthy viewer's buffers hold them
MIB = 1 << 20


@pytest.fixture(scope="module")
def faulty(
    environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Platform]]:
    """A database of its own, too: what is asked of it is counted."""
    log: Path = tmp_path_factory.mktemp("faults") / "server.log"
    with fresh_database(environ) as database:
        limits = ("JOINS_PER_SECOND", "MAX_VIEWERS_PER_USER", "MAX_VIEWERS_PER_ADDRESS")
        open_ = dict.fromkeys(limits, "0")  # everybody comes from one address here
        with running_server(database, log, **open_) as server:
            brokers, prefix = server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"]
            with closing(Platform(brokers, prefix)) as platform:
                yield server, platform
        assert "Traceback" not in log.read_text()


def statistics(server: Server) -> tuple[float, float]:
    """Resident bytes, and CPU seconds."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return int(fields[21]) * resource.getpagesize(), ticks


def produce(platform: Platform, trip: Trip, first: int, count: int) -> None:
    """Fast: acknowledged at the end."""
    for second in range(first, first + count):
        value = json.dumps(envelope("runner.location_update", trip.update(second))).encode()
        platform._producer.send(f"{platform.prefix}.runner.events", value=value, key=b"one")
    platform._producer.flush(timeout=60)


def nobody_left(server: Server) -> None:
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "everybody gone")
    assert server.metric("tracking_rooms") == 0


def test_stalled_viewers_are_closed_and_cost_the_others_nothing(
    faulty: tuple[Server, Platform],
) -> None:
    server, platform = faulty
    trip = stored_trip(server, platform, 1)
    token, count = owner(server, trip), 3_000  # of the hour since its start
    before = server.metric("tracking_connections_closed_total", code="4008")
    with ExitStack() as stack:
        reader = stack.enter_context(RawSocket.joined(server, trip.booking_id, token))
        for number in range(STALLED):
            v1 = number % 2 == 0
            stack.enter_context(
                RawSocket.joined(server, trip.booking_id, token, v1=v1, receive_buffer=4096)
            )
        memory, _ = statistics(server)
        seen = [json.loads(reader.next(TEXT) or b"")["seq"]]
        for first in range(2, count + 2, STEP):
            produce(platform, trip, first, STEP)
            seen += [json.loads(reader.next(TEXT) or b"")["seq"] for _ in range(STEP)]
        assert seen == list(range(1, count + 2))
        peak = statistics(server)[0]

        def all_closed() -> bool:
            closed = server.metric("tracking_connections_closed_total", code="4008") - before
            return closed == STALLED

        wait_until(all_closed, "all stalled viewers closed with 4008")
        assert server.metric("tracking_subscribers") == 1
        assert peak - memory < 64 * MIB
    nobody_left(server)


FLOODS = {
    "messages": frame(TEXT, b'{"type": "catch_up", "since_seq": 0}'),
    "binary messages": frame(BINARY, b"x"),
    "pings": frame(PING, b"x" * 125),
    "pongs": frame(PONG),
    "one-byte fragments": frame(0, b"x", fin=False),
    "empty fragments": frame(0, b"", fin=False),
}


@pytest.mark.parametrize("v1", [False, True], ids=["plain", "tracking.v1"])
@pytest.mark.parametrize("kind", list(FLOODS))
def test_a_flood_is_closed_and_hinders_nobody(
    faulty: tuple[Server, Platform], trip: Trip, kind: str, v1: bool
) -> None:
    server, _ = faulty
    with RawSocket.joined(server, trip.booking_id, owner(server, trip), v1=v1) as raw:
        if "fragments" in kind:
            raw.send(frame(TEXT, b"", fin=False))
        flood, stop = FLOODS[kind] * 100, threading.Event()

        def pour() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    raw.send(flood)

        pouring = threading.Thread(target=pour)
        pouring.start()
        start = time.monotonic()
        assert server.get("/health")[0] == 200
        assert time.monotonic() - start < 2
        code = raw.end()
        stop.set()
        pouring.join(15)
    assert code == 4429 or (v1 and kind == "binary messages" and code == 4500)
    nobody_left(server)


@pytest.fixture(scope="module")
def trip(faulty: tuple[Server, Platform]) -> Trip:
    return stored_trip(*faulty, 3)


@pytest.mark.skipif(SCALE < 2, reason="waits 45 s; tests/test_viewers.py has it with a fast clock")
def test_half_open_peers_are_gone_within_45_seconds(
    faulty: tuple[Server, Platform], trip: Trip
) -> None:
    server, _ = faulty
    token = owner(server, trip)
    with ExitStack() as stack:
        for number in range(10):  # open, but nobody reads or answers
            raw = RawSocket.joined(server, trip.booking_id, token, v1=number % 2 == 0)
            stack.enter_context(raw)
        start = time.monotonic()
        wait_until(lambda: server.metric("tracking_subscribers") == 0, "all gone", 60)
        assert time.monotonic() - start < 46


@pytest.mark.gen_test(timeout=300)
@pytest.mark.timeout(300)
async def test_a_storm_of_reconnects_asks_the_database_once_a_room(
    faulty: tuple[Server, Platform],
) -> None:
    server, platform = faulty
    trips = [await asyncio.to_thread(stored_trip, server, platform, 3) for _ in range(4)]
    phones: list[Phone] = []
    for number in range(STORM):
        trip = trips[number % len(trips)]
        phone = Phone(server, trip.booking_id, server.token(UUID(int=number), "admin"))
        path = f"/api/v1/tracking/{trip.booking_id}"
        if number < len(trips):
            epoch = server.get(path, owner(server, trip))[1]["data"]["epoch"]
        phone.epoch = epoch if number < len(trips) else phones[number % len(trips)].epoch
        phone.seen = [1]  # two were missed
        phones.append(phone)
    before = await asyncio.to_thread(asked, server)
    start = time.monotonic()
    await asyncio.gather(*(phone.listen(3, 60) for phone in phones))
    assert time.monotonic() - start < 60
    assert [each for phone in phones for each in phone.problems] == []
    assert {phone.closed for phone in phones} == {None}
    assert {tuple(phone.seen) for phone in phones} == {(1, 2, 3)}
    after = await asyncio.to_thread(asked, server)
    calls = {name: after[name] - before[name] for name in after}
    assert max(calls.values()) <= len(trips), calls
    assert calls["live_state"] >= 1
    await asyncio.to_thread(nobody_left, server)


def asked(server: Server) -> dict[str, float]:
    """How often viewers' questions went to the database."""
    names = ("live_state", "count_rows", "missed_page")
    return {name: server.metric("tracking_database_calls_total", function=name) for name in names}


def seqs_until(raw: RawSocket, last: int) -> list[int]:
    """Of the positions that come, live or in a backfill."""
    seqs: list[int] = []
    while last not in seqs:
        payload = raw.next(TEXT)
        assert payload is not None, f"it hung up after {seqs}"
        message = json.loads(payload)
        seqs += [point["seq"] for point in message.get("points", [])]
        seqs += [message["seq"]] if message["type"] == "location_update" else []
    return seqs


def test_a_server_that_was_paused_goes_on_without_a_gap(faulty: tuple[Server, Platform]) -> None:
    server, platform = faulty
    trip = stored_trip(server, platform, 2)
    assert server.process is not None
    with RawSocket.joined(server, trip.booking_id, owner(server, trip), v1=True) as raw:
        raw.socket.settimeout(60)
        # Who is being let in meanwhile is sent away: the database seems to hang.
        seqs = seqs_until(raw, 2)
        server.process.send_signal(signal.SIGSTOP)
        produce(platform, trip, 10, 20)
        threading.Event().wait(30 if SCALE > 1 else 2)  # the pause itself
        server.process.send_signal(signal.SIGCONT)
        raw.send(frame(PONG))  # this peer lives
        wait_seq(server, trip, 22)
        seqs += seqs_until(raw, 22)
        assert seqs == list(range(1, 23))
    server.wait_ready()
    nobody_left(server)


@pytest.mark.parametrize("how", ["many connections", "a lower limit"])
def test_out_of_descriptors_it_refuses_and_recovers(
    database: dict[str, str], tmp_path: Path, how: str
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_server(database, tmp_path / "log"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        brokers, prefix = server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"]
        platform = stack.enter_context(closing(Platform(brokers, prefix)))
        trip = stored_trip(server, platform, 1)
        viewer = stack.enter_context(RawSocket.joined(server, trip.booking_id, owner(server, trip)))
        assert viewer.next(TEXT)
        assert server.process is not None
        if how == "a lower limit":
            used = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 5, 300))
        crowd = [stack.enter_context(RawSocket(server)) for _ in range(280)]
        wait_until(lambda: "out of descriptors" in server.log.read_text(), "said")
        cpu = statistics(server)[1]
        threading.Event().wait(2)
        assert statistics(server)[1] - cpu < 1.0  # no spin
        platform.update(trip, 5)
        assert json.loads(viewer.next(TEXT) or b"{}")["seq"] == 2  # who is there is served
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (300, 300))
        for each in crowd:
            each.socket.close()
        wait_until(lambda: can_join(server, trip), "recovered")
        log = server.log.read_text()
        assert log.count("out of descriptors") <= 2
        assert "Traceback" not in log


def can_join(server: Server, trip: Trip) -> bool:
    with suppress(OSError), RawSocket(server) as raw:
        path = f"/ws/tracking/{trip.booking_id}?token={owner(server, trip)}"
        return raw.shake(handshake(path, {})) == 101
    return False


def test_a_draining_server_spreads_its_viewers_and_says_when_to_come_back(
    database: dict[str, str], tmp_path: Path
) -> None:
    with running_server(database, tmp_path / "log", JOINS_PER_SECOND="0") as server:
        brokers, prefix = server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"]
        with closing(Platform(brokers, prefix)) as platform, ExitStack() as stack:
            trip = stored_trip(server, platform, 1)
            token = owner(server, trip)
            raws = [
                stack.enter_context(
                    RawSocket.joined(server, trip.booking_id, token, v1=number % 2 == 0)
                )
                for number in range(40)
            ]
            assert server.stop() == 0
            reasons = set()
            for raw in raws:
                payload = raw.next(0x8)
                assert payload is not None
                assert int.from_bytes(payload[:2]) == 1001
                reasons.add(payload[2:].decode())
        assert all(reason.startswith("going away, retry in ") for reason in reasons)
        assert max(map(len, reasons)) <= 32
        assert len(reasons) > 1
