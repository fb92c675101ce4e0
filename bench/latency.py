"""Kafka to viewer: from the producer's send() to the frame at a WebSocket client."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from tornado.websocket import WebSocketClientConnection

from bench.cpu import cpu_seconds, stages
from bench.producing import PARTITIONS, make_topics
from bench.report import quantiles, table
from tests.running import (
    Platform,
    Server,
    Trip,
    connect,
    fresh_database,
    running_server,
    wait_until,
)

SECONDS: Final = 10
# After the last update was sent, for those that are still on their way.
QUIET_S: Final = 2.0
# Updates a second -> how many trips (and viewers) share them.
RATES: Final = {20: 20, 200: 100, 2000: 200}
COMMITS: Final = 300


def run(environ: dict[str, str]) -> str:
    """The tables; some two minutes."""
    rows, costs = [], dict[str, dict[str, float]]()
    with fresh_database(environ) as own, tempfile.TemporaryDirectory() as folder:
        commit_ms = _commit_ms(own)
        prefix = f"bench-{uuid4().hex[:12]}"
        make_topics(environ["KAFKA_BROKERS"], prefix)
        settings = {"KAFKA_TOPIC_PREFIX": prefix, "MAX_VIEWERS_PER_USER": "0"}
        with running_server(own, Path(folder) / "log", **settings) as server:
            for rate, trips in RATES.items():
                print(f"bench: latency at {rate}/s", file=sys.stderr)
                row, costs[f"{rate}/s"] = measured(server, rate, trips)
                rows.append(row)
    head = ["updates/s", "floor: bare produce to poll, ms (p50 p90 p99)",
            "Kafka to viewer, ms (p50 p90 p99)", "p50 above the floor, ms",
            "CPU of the service for an update, ms"]  # fmt: skip
    return "\n\n".join(
        [
            f"{PARTITIONS} partitions, the key is the event's id, tracking.updated on."
            f" One durable commit: {commit_ms:.2f} ms (median).",
            table(head, rows),
            "CPU for each update by stage, ms:",
            stages(costs, 2),
        ]
    )


def measured(server: Server, rate: int, trips: int) -> tuple[list[str], dict[str, float]]:
    """A row of the table, and the CPU milliseconds of an update by stage."""
    platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
    fleet = [Trip(datetime.now(UTC)) for _ in range(trips)]
    for trip in fleet:
        platform.accept(trip)
        platform.update(trip, 0)
    platform.close()
    token = server.token(fleet[0].owner_id, "admin")
    for trip in fleet:
        path = f"/api/v1/tracking/{trip.booking_id}"
        wait_until(lambda path=path: _seq(server, path, token), "every trip has begun")  # type: ignore[misc]
    job = {
        "brokers": server.environ["KAFKA_BROKERS"],
        "topic": f"{server.environ['KAFKA_TOPIC_PREFIX']}.runner.events",
        "rate": rate,
        "seconds": SECONDS,
        "trips": [trip.identity() for trip in fleet],
    }
    before = cpu_seconds(server)
    delays = quantiles(asyncio.run(_viewers(server, fleet, token, job)))
    used, updates = cpu_seconds(server), rate * SECONDS
    cost = {name: (used[name] - before.get(name, 0.0)) / updates * 1e3 for name in used}
    ours = sum(ms for name, ms in cost.items() if name.startswith("server: "))
    # The same load without us, over a topic of its own that nobody else reads.
    bare = quantiles(floor({**job, "topic": f"floor-{job['topic']}"}))
    row = [
        str(rate),
        " ".join(f"{ms:.1f}" for ms in bare),
        " ".join(f"{ms:.1f}" for ms in delays),
        f"{delays[0] - bare[0]:.1f}",
        f"{ours:.2f}",
    ]
    return row, cost


def _seq(server: Server, path: str, token: str) -> int:
    status, body, _ = server.get(path, token)
    return int(body["data"]["seq"]) if status == 200 else 0


async def _viewers(
    server: Server, fleet: list[Trip], token: str, job: dict[str, Any]
) -> list[float]:
    sockets = [await server.watch(trip.booking_id, token) for trip in fleet]
    for socket in sockets:
        await socket.read_message()  # the last known position
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.driver", stdin=asyncio.subprocess.PIPE
    )
    expected = job["rate"] * job["seconds"]
    found: list[float] = []
    readers = [asyncio.create_task(_read(socket, found)) for socket in sockets]
    await driver.communicate(json.dumps(job).encode())
    await asyncio.wait(readers, timeout=QUIET_S)  # they end with their sockets, not before
    for socket in sockets:
        socket.close()
    await asyncio.gather(*readers)
    # A point that an older partition overtook is no live position; it is stored all the same.
    print(f"bench: {len(found)} of {expected} updates seen live", file=sys.stderr)
    return found


async def _read(socket: WebSocketClientConnection, found: list[float]) -> None:
    while isinstance(text := await socket.read_message(), str):
        now = datetime.now(UTC)
        sent = datetime.fromisoformat(json.loads(text)["recorded_at"])
        found.append((now - sent).total_seconds() * 1000)


def floor(job: dict[str, Any]) -> list[float]:
    make_topics(job["brokers"], job["topic"].removesuffix(".runner.events"))
    poll = {**job, "kind": "latencies", "count": job["rate"] * job["seconds"]}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.poller"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as poller:  # fmt: skip
        assert poller.stdin is not None
        assert poller.stdout is not None
        poller.stdin.write(json.dumps(poll))
        poller.stdin.close()
        poller.stdout.readline()  # ready
        subprocess.run(
            [sys.executable, "-m", "bench.driver"], input=json.dumps(job), text=True, check=True
        )
        found: list[float] = json.loads(poller.stdout.read())
        return found


def _commit_ms(environ: dict[str, str]) -> float:
    connection = connect(environ)
    times = []
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE commits (number int)")
        connection.commit()
        for number in range(COMMITS):
            started = time.perf_counter()
            cursor.execute("INSERT INTO commits VALUES (%s)", (number,))
            connection.commit()
            times.append((time.perf_counter() - started) * 1000)
    connection.close()
    return statistics.median(times)
