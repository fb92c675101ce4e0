"""What may be asked of an export, and how its file is called."""

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

# Characters of a file's name that mean nothing to any shell, header or file system.
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_NAME: Final = 64
MOST_SIMPLIFY_M: Final = 1_000.0
# A day: who wants no gap at all.
MOST_GAP_S: Final = 86_400.0


class ExportOptions(Struct, frozen=True):
    """Which waypoints (`since` ≤ recorded < `until`, newer than `since_seq`), and how.

    `gap_s`: None for what follows from the track's own interval.
    """

    since_seq: int = 0
    since: datetime | None = None
    until: datetime | None = None
    simplify_m: float = 0.0
    gap_s: float | None = None
    with_flagged: bool = False


def file_name(booking_number: str | None, booking_id: UUID, ending: str) -> str:
    """Of the booking's number, or of its id when nothing of the number is left."""
    safe = _UNSAFE.sub("_", booking_number or "").strip("._-")[:LONGEST_NAME]
    return f"{safe or booking_id}.{ending}"
