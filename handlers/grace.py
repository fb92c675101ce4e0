"""When "no such booking" is not the last word yet. IOLoop thread.

A viewer may be faster than the event that tells us of his booking. `tracking.v1` gives up for good
when a booking is not found, so until that is certain the answer is to come back.
"""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from tracking.domain.freshness import DELAYED_AFTER_S

# Who asked for what; above that many the oldest is forgotten, and would be told to come back again.
MOST_REMEMBERED: Final = 10_000


class Grace:
    """Whether a booking may still turn up. Depends on nothing that is known of the booking.

    So a booking that is not there and one that is another's get the same answers.
    """

    def __init__(self, seconds: float, delay_s: Callable[[], float]) -> None:
        self._seconds = seconds
        self._delay_s = delay_s
        self._asked: dict[tuple[UUID, UUID], float] = {}  # user, booking -> when first

    def lasts(self, user_id: UUID, booking_id: UUID) -> bool:
        """While our pipeline is behind, or nobody knows, and for some time from the first ask."""
        if self._delay_s() > DELAYED_AFTER_S:
            return True
        if not self._seconds:
            return False
        now = time.monotonic()
        first = self._asked.setdefault((user_id, booking_id), now)
        if len(self._asked) > MOST_REMEMBERED:
            del self._asked[next(iter(self._asked))]
        return now - first < self._seconds
