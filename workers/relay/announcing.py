"""After a start, and after changes were dropped: where the tracks stand. IOLoop thread.

A process that is killed between COMMIT and sending has told nobody, and nobody would tell. So each
that starts says where the tracks stand that have moved lately; live processes that know less read.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tracking.domain.changes import BookingChanges
from tracking.errors import TrackingError
from workers.relay.sending import RelaySender

log = logging.getLogger("tracking.relay")

LOOK_S: Final = 0.2
# Between two looks at all tracks, whatever is dropped meanwhile.
PAUSE_S: Final = 2.0
# Longer than it takes to start again, or to notice that Kafka takes nothing.
LATELY_S: Final = 120.0
# Bookings that are told at once: a moment of the loop.
PART: Final = 500

RecentMoves = Callable[[float], Awaitable[Sequence[BookingChanges]]]


async def announce(sender: RelaySender, recent_moves: RecentMoves) -> None:
    """Until cancelled."""
    announced = -1  # changes that had been dropped by then
    while True:
        await asyncio.sleep(LOOK_S)
        if not sender.is_ready or sender.dropped == announced:
            continue
        dropped = sender.dropped
        try:
            moves = await recent_moves(LATELY_S)
        except TrackingError as error:
            log.warning("cannot say where the tracks stand, trying on: %s", error)
            await asyncio.sleep(PAUSE_S)
            continue
        for first in range(0, len(moves), PART):
            await sender.publish(moves[first : first + PART])
            await asyncio.sleep(0)
        announced = dropped
        await asyncio.sleep(PAUSE_S)
