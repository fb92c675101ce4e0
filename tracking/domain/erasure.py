"""Who is erased, and what takes the place of his id. Pure."""

from hashlib import sha256
from typing import Final
from uuid import UUID

# In the place of a runner's id that was erased.
NOBODY: Final = UUID(int=0)


def runner_digest(runner_id: UUID) -> bytes:
    """What is kept of a runner's id; as PostgreSQL's sha256(uuid_send(…))."""
    return sha256(runner_id.bytes).digest()
