"""What is done for every viewer: once a second, and when the server stops. IOLoop thread."""

import asyncio
import random
import time
from typing import Final

from handlers.websocket.viewers import Viewer
from tracking.live.rooms import Rooms
from tracking.live.send_queue import TICK_S
from tracking.live.subscriber import State, Subscriber
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
BEHIND: Final = (State.JOINING, State.CATCHING_UP)


async def tick_viewers(rooms: Rooms, metrics: Metrics) -> None:
    """Look at every viewer once a second, until cancelled: pings, ends, heartbeats.

    An error of ours in one viewer's tick closes that viewer.
    """
    while True:
        await asyncio.sleep(TICK_S)
        now, over, behind = time.monotonic(), 0, 0
        for count, subscriber in enumerate(rooms.everybody(), 1):
            try:
                _viewer(subscriber).tick(now)
            except Exception as error:
                subscriber.fail(error)
            over += subscriber.send_queue.is_over
            behind += subscriber.state in BEHIND
            if count % TICK_SLICE == 0:
                await asyncio.sleep(0)
        metrics.slow_viewers.set(over)
        metrics.catching_up.set(behind)


def _viewer(subscriber: Subscriber) -> Viewer:
    """In this server every subscriber is a viewer's."""
    assert isinstance(subscriber.connection, Viewer)
    return subscriber.connection


async def close_all(rooms: Rooms) -> None:
    """Tell everybody to come back to another process, spread so that they don't come at once."""
    subscribers = list(rooms.everybody())
    size = -(-len(subscribers) // DRAIN_STEPS)  # few: one at a time
    for start in range(0, len(subscribers), max(size, 1)):
        for subscriber in subscribers[start : start + size]:
            _close(subscriber, random.randint(*RETRY_S))
        await asyncio.sleep(min(DRAIN_SPREAD_S / DRAIN_STEPS, PAUSE_S * size))
    for subscriber in list(rooms.everybody()):  # who joined meanwhile
        _close(subscriber, RETRY_S[1])


def _close(subscriber: Subscriber, retry_s: int) -> None:
    try:
        subscriber.end(close_codes.going_away(retry_s))
    except Exception as error:
        subscriber.fail(error)
