"""Connections that are cut and joined under load: nothing missing, nothing twice.

CHURN_VIEWERS and CHURN_JOINS say how many; 1000 and 10000 are the figures of the guarantee.
"""

import asyncio
import json
import os
import random
import socket
from collections.abc import Iterator
from uuid import UUID

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.raw_sockets import RESET
from tests.running import Platform, Server, Trip, running_server, wait_until
from tests.test_protocol import stored
from tracking.wire.protocol import SUBPROTOCOL

VIEWERS = int(os.environ.get("CHURN_VIEWERS", "60"))
JOINS = int(os.environ.get("CHURN_JOINS", "300"))
SEED = int(os.environ.get("CHURN_SEED", str(random.randrange(10**6))))
AT_ONCE = 50
# Each join is told all that was published: a trip for so many, or the test would read for hours.
JOINS_OF_A_TRIP = 500


@pytest.fixture(scope="module")
def server(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everybody comes from one address here."""
    log = tmp_path_factory.mktemp("churn") / "server.log"
    with running_server(database, log, JOINS_PER_SECOND="0") as server:
        yield server


@pytest.fixture(scope="module")
def platform(server: Server) -> Iterator[Platform]:
    platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
    yield platform
    platform.close()


class Phone:
    """Keeps every seq that it was ever told, and resumes behind the last one."""

    def __init__(self, server: Server, booking_id: UUID, token: str) -> None:
        self.url = f"ws://127.0.0.1:{server.port}/ws/tracking/{booking_id}?token={token}"
        self.epoch: str | None = None
        self.seen: list[int] = []
        self.resumed = 0
        self.closed: int | None = None  # the server's code
        self.problems: list[str] = []

    @property
    def last(self) -> int:
        return self.seen[-1] if self.seen else 0

    async def connect(self) -> WebSocketClientConnection:
        resume = f"&epoch={self.epoch}&since_seq={self.last}" if self.epoch else ""
        request = HTTPRequest(self.url + resume, connect_timeout=30, request_timeout=30)
        return await websocket_connect(request, subprotocols=[SUBPROTOCOL])

    async def listen(self, until_seq: int, cut_after_s: float | None) -> None:
        """Until it has this seq, or its link is cut."""
        connection = await self.connect()
        try:
            async with asyncio.timeout(cut_after_s):
                while self.last < until_seq:
                    text = await connection.read_message()
                    if text is None:
                        self.closed = connection.close_code
                        break
                    self.take(json.loads(text))
        except TimeoutError:
            pass
        cut(connection)

    def take(self, message: dict[str, object]) -> None:
        kind = message["type"]
        if kind == "welcome":
            if self.epoch is not None and message["recovered"] is not True:
                self.problems.append(f"not recovered behind {self.last}")
            self.resumed += self.epoch is not None
            self.epoch = str(message["epoch"])
        elif kind == "location_update":
            self.saw([message])
        elif kind == "backfill":
            points = message["points"]
            assert isinstance(points, list)
            self.saw(points)

    def saw(self, points: list[dict[str, object]]) -> None:
        for point in points:
            seq = point["seq"]
            assert isinstance(seq, int)
            if seq != self.last + 1:
                self.problems.append(f"{seq} after {self.last}")
            self.seen.append(seq)


def cut(connection: WebSocketClientConnection) -> None:
    """Without a word: half the time a reset, else an end."""
    stream = connection.protocol.stream if connection.protocol else None
    if stream is not None and not stream.closed():
        if random.random() < 0.5:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        stream.close()
    connection.close()


async def produce(platform: Platform, trip: Trip, count: int, pause_s: float) -> None:
    """Positions, one tenth of them late."""
    for number in range(count):
        second = 100 + number if number % 10 else number / 10 + 0.5
        await asyncio.to_thread(platform.update, trip, second)
        await asyncio.sleep(pause_s)


@pytest.mark.gen_test(timeout=600)
@pytest.mark.timeout(600)
async def test_connections_cut_at_random_see_the_whole_table_once(
    server: Server, platform: Platform
) -> None:
    print(f"CHURN_SEED={SEED}")
    rng, count = random.Random(SEED), 150
    trip = await asyncio.to_thread(stored, server, platform, 3)
    tokens = [server.token(UUID(int=number), "admin") for number in range(VIEWERS)]
    phones = [Phone(server, trip.booking_id, token) for token in tokens]

    async def live(phone: Phone) -> None:
        while phone.last < count + 3:
            await phone.listen(count + 3, rng.uniform(0.01, 1.5))
            await asyncio.sleep(rng.uniform(0, 0.3))

    producing = asyncio.create_task(produce(platform, trip, count, 0.03))
    await asyncio.gather(*(live(phone) for phone in phones), producing)
    assert [p for phone in phones for p in phone.problems] == []
    assert {tuple(phone.seen) for phone in phones} == {tuple(range(1, count + 4))}
    assert sum(phone.resumed for phone in phones) > VIEWERS
    await asyncio.to_thread(nobody_left, server)


@pytest.mark.gen_test(timeout=600)
@pytest.mark.timeout(600)
async def test_joins_while_publishing_miss_nothing_and_see_nothing_twice(
    server: Server, platform: Platform
) -> None:
    for first in range(0, JOINS, JOINS_OF_A_TRIP):
        await joins_while_publishing(server, platform, min(JOINS_OF_A_TRIP, JOINS - first))
    await asyncio.to_thread(nobody_left, server)


async def joins_while_publishing(server: Server, platform: Platform, count: int) -> None:
    trip = await asyncio.to_thread(stored, server, platform, 3)
    going, places = True, asyncio.Semaphore(AT_ONCE)
    joined: list[Phone] = []

    async def keep_publishing() -> None:
        second = 10
        while going:
            second += 1
            await asyncio.to_thread(platform.update, trip, second)

    async def join_once(number: int) -> None:
        async with places:
            phone = Phone(server, trip.booking_id, server.token(UUID(int=number), "admin"))
            joined.append(phone)
            connection = await phone.connect()
            wanted = 1
            # Beyond the head of its own welcome: what was held, and what came live behind it.
            while phone.last < wanted + 3:
                text = await asyncio.wait_for(connection.read_message(), 60)
                assert text is not None, connection.close_code
                message = json.loads(text)
                wanted = message["seq"] if message["type"] == "welcome" else wanted
                phone.take(message)
            cut(connection)

    publishing = asyncio.create_task(keep_publishing())
    await asyncio.gather(*(join_once(number) for number in range(count)))
    going = False
    await publishing
    assert [p for phone in joined for p in phone.problems] == []
    assert len(joined) == count
    assert all(phone.seen == list(range(1, phone.last + 1)) for phone in joined)


def nobody_left(server: Server) -> None:
    wait_until(lambda: server.metric("tracking_subscribers") == 0, "the gauge at nothing")
    assert server.metric("tracking_rooms") == 0
    assert "Traceback" not in server.log.read_text()
