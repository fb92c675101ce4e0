"""Lets viewers of erased bookings go, in every process by itself. IOLoop thread.

A booking may be erased through another process, or by a command beside them all. So each process
asks what was erased since it last heard, in one statement that finds next to nothing; as it asks
for share links that are over (link_check.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from uuid import UUID

from tracking.errors import DatabaseUnavailable
from tracking.live.replays import Replays
from tracking.live.rooms import Rooms

log = logging.getLogger("tracking.stream")

# With the answer less than a second. While there is none nobody can be shown anything new of the
# booking, either: it is not in the database any more.
CHECK_S: Final = 0.4
PAUSE_S: Final = 0.05
# From when a booking is marked, the last statement of its erasure but two, until it is committed;
# and by how much a clock may be set back meanwhile.
COMMIT_S: Final = 30.0

Ask = Callable[[float], Awaitable[Collection[UUID]]]


async def check_erasures(rooms: Rooms, replays: Replays, ask: Ask) -> None:
    """Until cancelled. `ask`: what was erased in the last so many seconds, or raises
    DatabaseUnavailable.
    """
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
    is_unanswered = False
    while True:
        began = loop.time()
        try:
            for booking_id in await ask(began - answered_at + COMMIT_S):
                rooms.erase(booking_id)
                replays.erase(booking_id)
            answered_at = began
            is_unanswered = False
        except DatabaseUnavailable as error:
            if not is_unanswered:
                log.warning("what was erased is not known, trying on: %s", error)
            is_unanswered = True
        await asyncio.sleep(max(began + CHECK_S - loop.time(), PAUSE_S))
