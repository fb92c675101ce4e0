"""The real server, whose relay also publishes what the benchmark offers on a socket of its own.

A record in Kafka would wait behind the backlog; what is measured is the way from relay to viewers.
"""

import asyncio
import json
import os
import sys
from typing import Any
from uuid import UUID

import server
from bench.fanout.offers import offer, waypoint
from tracking.store.ingest import Stored
from workers.relay import LocalRelay

# Far above what the database gives, so that nothing that was stored is newer.
FIRST_SEQ = 1_000_000


class OfferedRelay(LocalRelay):
    """A relay with a second source."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._seq = FIRST_SEQ
        self._task = asyncio.ensure_future(
            asyncio.start_unix_server(self._answer, os.environ["BENCH_OFFERS"])
        )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = json.loads(await reader.readline())
        bookings = [UUID(text) for text in job["bookings"]]

        async def publish(number: int, due: float) -> None:
            self._seq += 1
            booking_id = bookings[number % len(bookings)]
            await self.publish(Stored([waypoint(booking_id, self._seq, due)]))

        number = await offer(publish, job["rate"], job["seconds"])
        writer.write(json.dumps({"published": number}).encode() + b"\n")
        writer.close()


server.LocalRelay = OfferedRelay  # type: ignore[attr-defined, assignment]

if __name__ == "__main__":
    sys.exit(server.main())
