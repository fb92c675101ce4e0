"""While PostgreSQL is away: an honest 503 in time, nothing lost, and then it goes on."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy import Proxy
from tests.running import (
    NEEDED,
    Platform,
    Server,
    Trip,
    connect,
    running_server,
    wait_until,
)


@pytest.fixture
def proxy(database: dict[str, str]) -> Iterator[Proxy]:
    proxy = Proxy(database["DB_HOST"], int(database["DB_PORT"]))
    yield proxy
    proxy.close()


def seq(server: Server, trip: Trip) -> int:
    path = f"/api/v1/tracking/{trip.booking_id}"
    status, body, _ = server.get(path, server.token(trip.owner_id, "owner"))
    return int(body["data"]["seq"]) if status == 200 else 0


@pytest.mark.parametrize("fault", ["cut", "hang"])
def test_an_outage_of_the_database_loses_nothing(
    database: dict[str, str], proxy: Proxy, tmp_path: Path, fault: str
) -> None:
    environ = {**database, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}
    assert set(NEEDED) <= set(environ)
    with running_server(environ, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = Trip()
        platform.accept(trip)
        platform.update(trip, 0)
        wait_until(lambda: seq(server, trip) == 1, "first waypoint")
        getattr(proxy, fault)()
        for second in range(1, 200):
            platform.update(trip, second)
        path = f"/api/v1/tracking/{trip.booking_id}"
        started = time.monotonic()
        status, body, headers = server.get(path, server.token(trip.owner_id, "owner"))
        assert time.monotonic() - started < 2
        assert (status, body["success"], headers["Retry-After"]) == (503, False, "2")
        assert server.get("/health")[0] == 200
        ready, checks, _ = server.get("/readiness")
        assert (ready, checks["checks"]["database"]) != (200, "ok")
        proxy.heal()
        wait_until(lambda: seq(server, trip) == 200, "everything stored")
        assert server.metric("tracking_events_total", outcome="applied") >= 201
        assert server.metric("tracking_events_total", outcome="dead") == 0
        platform.close()
        log = (tmp_path / "log").read_text()
    assert "Traceback" not in log


@pytest.mark.gen_test
async def test_a_position_is_shown_only_after_it_is_stored(
    database: dict[str, str], server: Server, platform: Platform
) -> None:
    trip = Trip()
    platform.accept(trip)
    platform.update(trip, 0)
    await asyncio.to_thread(wait_until, lambda: seq(server, trip) == 1, "first waypoint")
    socket = await server.watch(trip.booking_id, server.token(trip.owner_id, "owner"))
    assert json.loads(str(await socket.read_message()))["seq"] == 1
    shown = asyncio.ensure_future(socket.read_message())
    tried = server.metric("tracking_batch_retries_total")
    connection = connect(database)
    connection.cursor().execute("LOCK TABLE waypoints IN EXCLUSIVE MODE")  # readers may go on
    platform.update(trip, 1)
    await asyncio.to_thread(
        wait_until, lambda: server.metric("tracking_batch_retries_total") > tried, "held up"
    )
    assert not shown.done()
    assert seq(server, trip) == 1
    connection.close()
    frame = json.loads(str(await asyncio.wait_for(shown, 50)))
    assert frame["seq"] == seq(server, trip) == 2
    socket.close()
