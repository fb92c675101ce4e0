"""How much one user, one address, and all viewers together may take. IOLoop thread."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from tracking.errors import Overloaded, TooManyConnections, TooManyRequests
from tracking.settings import Settings

Slot = tuple[UUID, str]  # of one open WebSocket: its user or share link, and its address

# A burst of so many seconds' worth is let through: everybody behind a gateway comes back at once.
BURST_S: Final = 10.0
# Addresses whose allowance is remembered before the table is emptied of full ones.
ADDRESSES: Final = 10_000

# Exports that leave at once: each holds a page, one that was read ahead, and texts, 8 MB together.
EXPORTS: Final = 32

# A status page asks every few seconds; some are open in tabs.
STATUS_PER_SECOND: Final = 2


class Allowances:
    """What each address may still do: `rate` a second, `rate` * BURST_S at once; 0: no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        # Address -> what it may still do, and when that was so.
        self._left: dict[str, tuple[float, float]] = {}
        self._tidy_at = ADDRESSES

    def __len__(self) -> int:
        return len(self._left)

    def spend(self, address: str) -> bool:
        """One more of this address; False if it has none left."""
        if not self._rate:
            return True
        now, most = time.monotonic(), self._rate * BURST_S
        left, then = self._left.get(address, (most, now))
        left = min(left + (now - then) * self._rate, most)
        if left < 1:
            return False
        if len(self._left) >= self._tidy_at:
            self._forget_full(now, most)
            # Twice what is left, or a flood of addresses would tidy at every call.
            self._tidy_at = max(ADDRESSES, 2 * len(self._left))
        self._left[address] = (left - 1, now)
        return True

    def _forget_full(self, now: float, most: float) -> None:
        self._left = {
            address: (left, then)
            for address, (left, then) in self._left.items()
            if left + (now - then) * self._rate < most
        }


class Limits:
    """0 in a setting means no limit."""

    def __init__(self, settings: Settings, max_viewers: int) -> None:
        self._max_viewers = max_viewers
        self._of_user = settings.max_viewers_per_user
        self._of_link = settings.max_viewers_per_link
        self._of_address = settings.max_viewers_per_address
        self._joins = Allowances(settings.joins_per_second)
        self._requests = Allowances(settings.requests_per_second)
        self._status = Allowances(STATUS_PER_SECOND)
        self._users: Counter[UUID | str] = Counter()
        self._addresses: Counter[UUID | str] = Counter()
        self._total = 0
        self._exports = 0

    @contextmanager
    def export(self) -> Iterator[None]:
        """While one export leaves; raises Overloaded."""
        if self._exports >= EXPORTS:
            raise Overloaded("too many exports at once")
        self._exports += 1
        try:
            yield
        finally:
            self._exports -= 1

    def count_join(self, address: str) -> None:
        """One more join of this address, before its token is looked at; raises TooManyRequests."""
        if not self._joins.spend(address):
            raise TooManyRequests("too many connections at once")

    def count_request(self, address: str) -> None:
        """One more REST request of this address; raises TooManyRequests."""
        if not self._requests.spend(address):
            raise TooManyRequests("too many requests at once")

    def count_status(self, user_id: UUID) -> None:
        """One more look of this user at the status; raises TooManyRequests."""
        if not self._status.spend(str(user_id)):
            raise TooManyRequests("too many requests at once")

    def acquire(self, user_id: UUID, address: str) -> Slot:
        """A slot for one viewer, to be released; raises Overloaded or TooManyConnections."""
        return self._acquire(user_id, self._of_user, address, "too many connections of this user")

    def acquire_for_link(self, share_id: UUID, address: str) -> Slot:
        """As `acquire`, for a viewer who looks through a share link."""
        return self._acquire(share_id, self._of_link, address, "too many viewers of this link")

    def _acquire(self, whose: UUID, most: int, address: str, too_many: str) -> Slot:
        if self._total >= self._max_viewers:
            raise Overloaded("too many viewers")
        if most and self._users[whose] >= most:
            raise TooManyConnections(too_many)
        if self._of_address and self._addresses[address] >= self._of_address:
            raise TooManyConnections("too many connections from this address")
        self._count(whose, address, 1)
        return whose, address

    def release(self, slot: Slot) -> None:
        self._count(*slot, -1)

    def _count(self, user_id: UUID, address: str, change: int) -> None:
        self._total += change
        for counts, key in ((self._users, user_id), (self._addresses, address)):
            counts[key] += change
            if not counts[key]:
                del counts[key]  # memory follows those who are here
