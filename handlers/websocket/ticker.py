"""What is done for every viewer: once a second, and when the server stops. IOLoop thread."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from handlers.websocket.viewers import Viewer
from tracking.live.recipient import Recipient, State
from tracking.live.send_queue import TICK_S
from tracking.metrics import Metrics
from tracking.wire import close_codes

# Viewers that are looked at before the loop may do something else.
TICK_SLICE: Final = 500
# A stopping server lets so many viewers go in a second, over three seconds at the least and a
# minute at the most: another process has to let them in again.
DRAIN_RATE: Final = 500
DRAIN_LEAST_S: Final = 3.0
DRAIN_MOST_S: Final = 60.0
DRAIN_STEP_S: Final = 0.06
PAUSE_S: Final = 0.01  # between two viewers, when they are few
# They are told to come back within so long: by then another process is there.
RETRY_S: Final = (1, 5)
Everybody = Callable[[], Iterable[Recipient]]  # at this moment, safe against leaving meanwhile
BEHIND: Final = (State.JOINING, State.CATCHING_UP)


async def tick_viewers(everybody: Everybody, metrics: Metrics) -> None:
    """Look at every viewer once a second, until cancelled: pings, ends, heartbeats.

    An error of ours in one viewer's tick closes that viewer.
    """
    while True:
        await asyncio.sleep(TICK_S)
        now, over, behind = time.monotonic(), 0, 0
        for count, recipient in enumerate(everybody(), 1):
            try:
                _viewer(recipient).tick(now)
            except Exception as error:
                recipient.fail(error)
            over += recipient.send_queue.is_over
            behind += recipient.state in BEHIND
            if count % TICK_SLICE == 0:
                await asyncio.sleep(0)
        metrics.slow_viewers.set(over)
        metrics.catching_up.set(behind)


def _viewer(recipient: Recipient) -> Viewer:
    """In this server every recipient is a viewer's."""
    assert isinstance(recipient.connection, Viewer)
    return recipient.connection


def drain_s(viewers: int) -> float:
    """How long it takes to let them go."""
    return min(max(viewers / DRAIN_RATE, DRAIN_LEAST_S), DRAIN_MOST_S)


async def close_all(everybody: Everybody) -> None:
    """Tell everybody to come back to another process, spread so that they don't come at once."""
    recipients = list(everybody())
    steps = drain_s(len(recipients)) / DRAIN_STEP_S
    size = math.ceil(len(recipients) / steps)  # few: one at a time
    loop = asyncio.get_running_loop()
    due = loop.time()
    for start in range(0, len(recipients), max(size, 1)):
        for recipient in recipients[start : start + size]:
            _close(recipient, random.randint(*RETRY_S))
        # Each at its time: on a slow machine, too, everybody is told before the stop goes on.
        due += min(DRAIN_STEP_S, PAUSE_S * size)
        await asyncio.sleep(max(due - loop.time(), 0))
    for recipient in list(everybody()):  # who joined meanwhile
        _close(recipient, RETRY_S[1])


def _close(recipient: Recipient, retry_s: int) -> None:
    try:
        recipient.end(close_codes.going_away(retry_s))
    except Exception as error:
        recipient.fail(error)
