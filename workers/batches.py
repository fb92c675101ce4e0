"""What the consumer thread hands to the IOLoop: one value for each crossing."""

import time
from collections import Counter
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct, field

from tracking.events import Event


class Origin(NamedTuple):
    """Where an event came from: for the log, and later for its dead letter."""

    topic: str
    partition: int
    offset: int
    event_id: str


class Batch(Struct):
    """Checked events in the order of arrival, and what is true once they are stored."""

    events: list[Event] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    # (topic, partition) -> the offset to commit: the last one read, plus one.
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    # Outcomes that are known without the database: ignored and dead, by type.
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    records: int = 0
    size: int = 0  # bytes of the records' values
    taken_at: float = field(default_factory=time.monotonic)
    adopt: frozenset[UUID] = frozenset()  # bookings whose parked updates are looked at again

    def extend(self, other: "Batch") -> None:
        """Append what arrived later."""
        self.events += other.events
        self.origins += other.origins
        self.offsets |= other.offsets
        self.outcomes += other.outcomes
        self.records += other.records
        self.size += other.size
        self.adopt |= other.adopt
