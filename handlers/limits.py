"""How much one user, one address, and all viewers together may take. IOLoop thread."""

import time
from collections import Counter
from ipaddress import IPv6Address, IPv6Network
from typing import Final
from uuid import UUID

from tracking.errors import Overloaded, TooManyConnections, TooManyRequests
from tracking.settings import Settings

Slot = tuple[UUID, str]  # of one open WebSocket: its user and address

# A burst of so many seconds' joins is let through: everybody behind a gateway comes back at once.
BURST_S: Final = 10.0
# Addresses whose allowance is remembered before the table is emptied of full ones.
ADDRESSES: Final = 10_000


def network_of(remote_ip: str) -> str:
    """What limits count as one address: of IPv6 the /64, since every customer has a whole one."""
    try:
        address = IPv6Address(remote_ip)
    except ValueError:
        return remote_ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address.packed[:8] + bytes(8), 64)))


class Limits:
    """0 in a setting means no limit."""

    def __init__(self, settings: Settings, max_viewers: int) -> None:
        self._max_viewers = max_viewers
        self._of_user = settings.max_viewers_per_user
        self._of_address = settings.max_viewers_per_address
        self._joins = settings.joins_per_second
        self._users: Counter[UUID | str] = Counter()
        self._addresses: Counter[UUID | str] = Counter()
        self._total = 0
        # Address -> joins that it may still make, and when that was so.
        self._allowances: dict[str, tuple[float, float]] = {}
        self._tidy_at = ADDRESSES

    def count_join(self, address: str) -> None:
        """One more join of this address, before its token is looked at; raises TooManyRequests."""
        if not self._joins:
            return
        now, most = time.monotonic(), self._joins * BURST_S
        left, then = self._allowances.get(address, (most, now))
        left = min(left + (now - then) * self._joins, most)
        if left < 1:
            raise TooManyRequests("too many connections at once")
        if len(self._allowances) >= self._tidy_at:
            self._forget_full(now, most)
            # Twice what is left, or a flood of addresses would tidy at every join.
            self._tidy_at = max(ADDRESSES, 2 * len(self._allowances))
        self._allowances[address] = (left - 1, now)

    def _forget_full(self, now: float, most: float) -> None:
        self._allowances = {
            address: (left, then)
            for address, (left, then) in self._allowances.items()
            if left + (now - then) * self._joins < most
        }

    def acquire(self, user_id: UUID, address: str) -> Slot:
        """A slot for one viewer, to be released; raises Overloaded or TooManyConnections."""
        if self._total >= self._max_viewers:
            raise Overloaded("too many viewers")
        if self._of_user and self._users[user_id] >= self._of_user:
            raise TooManyConnections("too many connections of this user")
        if self._of_address and self._addresses[address] >= self._of_address:
            raise TooManyConnections("too many connections from this address")
        self._count(user_id, address, 1)
        return user_id, address

    def release(self, slot: Slot) -> None:
        self._count(*slot, -1)

    def _count(self, user_id: UUID, address: str, change: int) -> None:
        self._total += change
        for counts, key in ((self._users, user_id), (self._addresses, address)):
            counts[key] += change
            if not counts[key]:
                del counts[key]  # memory follows those who are here
