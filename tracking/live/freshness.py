"""Tells viewers once a second how true what they see is: silence is news, too. IOLoop thread."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from weakref import WeakSet

from tracking.live.room import Room
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics

log = logging.getLogger("tracking.freshness")

FRESHNESS_S: Final = 1.0
# Rooms that are looked at before the loop may do something else.
ROOMS_PER_SLICE: Final = 500


async def tell_freshness(rooms: Rooms, metrics: Metrics, delay_s: Callable[[], float]) -> None:
    """Look at every room once a second, until cancelled.

    A room that cannot be looked at is logged once, until it can be again, and counted each time.
    """
    failing: WeakSet[Room] = WeakSet()
    while True:
        await asyncio.sleep(FRESHNESS_S)
        now, delay = datetime.now(UTC), delay_s()
        for count, room in enumerate(rooms.all(), 1):
            try:
                room.age(now, delay)
                failing.discard(room)
            except Exception:
                metrics.live_errors.labels("freshness").inc()
                if room not in failing:
                    failing.add(room)
                    log.exception("the freshness of a room cannot be told")
            if count % ROOMS_PER_SLICE == 0:
                await asyncio.sleep(0)
