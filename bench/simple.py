"""A service of this kind as it is usually written, as a peer: `python -m bench.simple`.

One thread polls, the loop has each update inserted and committed by an executor, then writes it to
whoever watches its booking. No order, no duplicates, no resume, no state of a trip. Told by JSON
lines: the job, then it answers with its port.
"""

import asyncio
import json
import sys
import threading
from collections import defaultdict
from typing import Any, Final

import psycopg2
from kafka import KafkaConsumer
from psycopg2.extensions import connection as Connection
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS simple_positions (id bigserial PRIMARY KEY, booking_id uuid,"
    " runner_id uuid, recorded_at timestamptz, position geometry(Point, 4326), speed_kmh real,"
    " heading_degrees real)"
)
INSERT: Final = (
    "INSERT INTO simple_positions (booking_id, runner_id, recorded_at, position, speed_kmh,"
    " heading_degrees) VALUES (%(booking_id)s, %(runner_id)s, %(recorded_at)s,"
    " ST_SetSRID(ST_MakePoint(%(longitude)s, %(latitude)s), 4326), %(speed_kmh)s,"
    " %(heading_degrees)s)"
)

watching: defaultdict[str, set[WebSocketHandler]] = defaultdict(set)


class Viewer(WebSocketHandler):
    """Watches one booking."""

    def open(self, *path: str, **_: str) -> None:
        self._booking_id = path[0]
        watching[self._booking_id].add(self)

    def on_message(self, _: str | bytes) -> None:
        """Viewers say nothing."""

    def on_close(self) -> None:
        watching[self._booking_id].discard(self)


async def handle(connection: Connection, records: list[Any]) -> None:
    """Store and show each update."""
    for record in records:
        data = json.loads(record.value)["data"]
        data["recorded_at"] = data.pop("timestamp")
        await asyncio.get_running_loop().run_in_executor(None, insert, connection, data)
        for viewer in list(watching[data["booking_id"]]):
            viewer.write_message(json.dumps(data))


def insert(connection: Connection, data: dict[str, Any]) -> None:
    """Committed when it returns."""
    with connection, connection.cursor() as cursor:
        cursor.execute(INSERT, data)


def consume(job: dict[str, Any], loop: asyncio.AbstractEventLoop, queue: Any) -> None:
    """The thread: polls for ever."""
    consumer = KafkaConsumer(
        job["topic"],
        bootstrap_servers=job["brokers"],
        group_id=job["topic"],
        auto_offset_reset="earliest",
    )
    while True:
        for records in consumer.poll(timeout_ms=500).values():
            loop.call_soon_threadsafe(queue.put_nowait, records)


async def main() -> None:
    """Ends with its parent, which kills it."""
    job = json.loads(sys.stdin.readline())
    connection = psycopg2.connect(**job["database"])
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
    queue: asyncio.Queue[list[Any]] = asyncio.Queue()
    arguments = (job, asyncio.get_running_loop(), queue)
    threading.Thread(target=consume, args=arguments, daemon=True).start()
    server = HTTPServer(Application([("/ws/(.+)", Viewer)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(json.dumps({"port": sockets[0].getsockname()[1]}), flush=True)
    while True:
        await handle(connection, await queue.get())


if __name__ == "__main__":
    asyncio.run(main())
