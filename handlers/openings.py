"""Who has opened a share link already: a page that comes back is no other viewer. IOLoop thread.

A link's viewers have no token of their own and get no cookie. Those of one address with the same
User-Agent are taken for one; neither is kept, only a hash of both.
"""

import time
from hashlib import blake2b
from typing import Final
from uuid import UUID

# A page that is looked at again after so long without a request counts again.
SAME_VIEWER_S: Final = 1800.0
# Above that many the one that was quiet for longest is forgotten, and would be counted again.
MOST_REMEMBERED: Final = 50_000


class Openings:
    """Of this process: a viewer who goes from one to another is counted by both."""

    def __init__(self) -> None:
        self._seen: dict[bytes, float] = {}  # the one heard of last stands last

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, share_id: UUID, address: str, agent: str) -> bool:
        """Is it to be counted? Remembers it either way."""
        now = time.monotonic()
        key = _key(share_id, address, agent)
        before = self._seen.pop(key, None)
        self._seen[key] = now
        if len(self._seen) > MOST_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return before is None or now - before > SAME_VIEWER_S

    def forget(self, share_id: UUID, address: str, agent: str) -> None:
        """It could not be counted: the next request is to try again."""
        self._seen.pop(_key(share_id, address, agent), None)


def _key(share_id: UUID, address: str, agent: str) -> bytes:
    return blake2b(f"{share_id} {address} {agent}".encode(), digest_size=16).digest()
