"""What is done for every viewer: once a second, and when the server stops. IOLoop thread."""

import asyncio
import random
import time
from typing import Final

from handlers.websocket.send_queue import TICK_S
from handlers.websocket.viewers import Viewer
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.wire import close_codes

# Viewers that are looked at before the loop may do something else.
TICK_SLICE: Final = 500
# A stopping server lets its viewers go over so long, so many times a second.
DRAIN_SPREAD_S: Final = 3.0
DRAIN_STEPS: Final = 50
PAUSE_S: Final = 0.01  # between two viewers, when they are few
# They are told to come back within so long: by then another process is there.
RETRY_S: Final = (1, 5)


async def tick_viewers(rooms: Rooms, metrics: Metrics) -> None:
    """Look at every viewer once a second, until cancelled: pings, ends, heartbeats."""
    while True:
        await asyncio.sleep(TICK_S)
        now, over, behind = time.monotonic(), 0, 0
        for count, viewer in enumerate(rooms.everybody(), 1):
            if isinstance(viewer, Viewer):
                viewer.tick(now)
                over += viewer.send_queue.is_over
                behind += viewer.is_catching_up
            if count % TICK_SLICE == 0:
                await asyncio.sleep(0)
        metrics.slow_viewers.set(over)
        metrics.catching_up.set(behind)


async def close_all(rooms: Rooms) -> None:
    """Tell everybody to come back to another process, spread so that they don't come at once."""
    viewers = [each for each in rooms.everybody() if isinstance(each, Viewer)]
    size = -(-len(viewers) // DRAIN_STEPS)  # few: one at a time
    for start in range(0, len(viewers), max(size, 1)):
        for viewer in viewers[start : start + size]:
            viewer.connection.close_with(close_codes.going_away(random.randint(*RETRY_S)))
        await asyncio.sleep(min(DRAIN_SPREAD_S / DRAIN_STEPS, PAUSE_S * size))
    for each in list(rooms.everybody()):  # who joined meanwhile
        if isinstance(each, Viewer):
            each.connection.close_with(close_codes.going_away(RETRY_S[1]))
