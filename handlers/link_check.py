"""Ends the sockets of share links that are over, in every process by itself. IOLoop thread.

A link ends by its time, by the trip's end, or since its owner revokes it, perhaps through another
process. So each process asks the database about the links that have open sockets here, in one
statement. docs/adr/0039 has the reasons.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from handlers.link_viewers import LinkViewers
from tracking.errors import DatabaseUnavailable
from tracking.wire import close_codes

log = logging.getLogger("tracking.stream")

# Together less than a second: a link that is revoked right behind one check is found by the next,
# and when that one is not answered nobody knows, and its viewers are closed.
CHECK_S: Final = 0.4
ANSWER_S: Final = 0.5
# One may hang with its connection; then the other asks.
LINK_THREADS: Final = 2
# Between an answer that took long and the next question.
PAUSE_S: Final = 0.05

Ask = Callable[[Collection[UUID]], Awaitable[dict[UUID, datetime]]]


async def check_links(viewers: LinkViewers, ask: Ask) -> None:
    """Until cancelled. `ask` answers within ANSWER_S, or raises DatabaseUnavailable."""
    loop = asyncio.get_running_loop()
    is_unanswered = False
    while True:
        began = loop.time()
        asked = viewers.share_ids()
        if asked:
            try:
                viewers.checked(asked, await ask(asked))
                is_unanswered = False
            except DatabaseUnavailable as error:
                for share_id in asked:
                    viewers.close(share_id, close_codes.OVERLOADED)
                if not is_unanswered:
                    log.warning("share links cannot be checked, their viewers come back: %s", error)
                is_unanswered = True
        await asyncio.sleep(max(began + CHECK_S - loop.time(), PAUSE_S))
