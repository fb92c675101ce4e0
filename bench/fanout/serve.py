"""The real server, whose broadcast also publishes what the benchmark offers on a socket of its own.

A record in Kafka would wait behind the backlog. Measured is the way from broadcast to viewers.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from tornado.ioloop import IOLoop

import server
from bench.fanout.offers import offer, waypoint
from roles import serving
from tracking.domain.changes import in_order
from tracking.live import audience
from tracking.live.broadcast import Broadcast
from tracking.live.sender import send_each
from workers.kafka import flow_control, in_flight
from workers.kafka.batches import Batch

# Far above what the database gives, so that nothing that was stored is newer.
FIRST_SEQ = 1_000_000
# Of a job that names 10,000 bookings.
MOST_BYTES = 1 << 20


class OfferedBroadcast(Broadcast):
    """A broadcast with a second source."""

    loop: IOLoop

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        OfferedBroadcast.loop = IOLoop.current()
        self._seq = FIRST_SEQ
        self._task = asyncio.ensure_future(
            asyncio.start_unix_server(self._answer, os.environ["BENCH_OFFERS"], limit=MOST_BYTES)
        )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = json.loads(await reader.readline())
        bookings = [UUID(text) for text in job["bookings"]]

        async def publish(number: int, due: float) -> None:
            self._seq += 1
            booking_id = bookings[number % len(bookings)]
            await self.publish(in_order([], [waypoint(booking_id, self._seq, due)]))

        number = await offer(publish, job["rate"], job["seconds"])
        writer.write(json.dumps({"published": number}).encode() + b"\n")
        writer.close()


def apply(variant: str) -> None:
    """`name=value`, separated by commas: what the table of what was tried changes."""
    for name, _, value in (part.partition("=") for part in variant.split(",") if part):
        match name:
            case "send":
                server.fastest_sender = partial(WAYS.__getitem__, value)  # type: ignore[attr-defined]
            case "switch":
                server.SWITCH_INTERVAL_S = float(value)  # type: ignore[misc]
            case "gc":
                server.GC_THRESHOLDS = (int(value), 20, 100)  # type: ignore[misc]
            case "poll":
                flow_control.POLL_RECORDS = int(value)  # type: ignore[misc]
            case "cohort":
                audience.COHORT = int(value)  # type: ignore[misc]
            case "worth":
                audience.WORTH_A_COHORT = int(value)  # type: ignore[misc]
            case "wait":
                in_flight.InFlight.give = _give_and_wait(float(value))  # type: ignore[method-assign, assignment]


def by_socket(descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
    """A call for each that gives up the GIL, as socket.send does."""
    for descriptor in descriptors:
        os.write(descriptor, frame)
    return []


WAYS = {"each": send_each, "socket": by_socket}


def _give_and_wait(limit_s: float) -> Callable[[Any, Batch, Any], None]:
    """The consumer reads on when the loop has taken what it was given."""
    give = in_flight.InFlight.give

    def waiting(self: in_flight.InFlight, batch: Batch, offsets: Any) -> None:
        taken = threading.Event()
        give(self, batch, offsets)
        OfferedBroadcast.loop.add_callback(taken.set)
        taken.wait(limit_s)

    return waiting


serving.Broadcast = OfferedBroadcast  # type: ignore[attr-defined, assignment]
apply(os.environ.get("BENCH_VARIANT", ""))

if __name__ == "__main__":
    sys.exit(server.main())
