"""Messages to publish, on time or as fast as they go; the same for the service and its peers."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tracking.domain.waypoints import StoredWaypoint

NOBODY: Final = UUID(int=0)


def waypoint(booking_id: UUID, seq: int, at: float) -> StoredWaypoint:
    """A position whose time of recording is when it was due: what a viewer's delay counts from."""
    when = datetime.fromtimestamp(at, UTC)
    return StoredWaypoint(
        booking_id, NOBODY, seq, NOBODY, 106.812345, -6.212345, 36.5, 90.0, when, when, late=False
    )


async def offer(publish: Callable[[int, float], Any], rate: float, seconds: float) -> int:
    """Call with number and due time: open loop, or at rate 0 one after the other. How many."""
    start, number = time.time(), 0
    while True:
        now = time.time()
        due = start + number / rate if rate else now
        if due >= start + seconds:
            return number
        # Also when late: a round must not keep the loop from everybody else.
        await asyncio.sleep(max(due - now, 0.0))
        result = publish(number, due)
        if asyncio.iscoroutine(result):
            await result
        number += 1
