"""What the consumer thread hands to the IOLoop: one value for each crossing."""

import time
from collections import Counter
from typing import Any
from uuid import UUID

from msgspec import Struct, field

from tracking.domain.events import Event
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.forwarded import Bundle


class Batch(Struct):
    """Checked events in the order of arrival, and what is true once they are stored."""

    events: list[Event] = field(default_factory=list)
    # The Kafka record of each event, as it came: an event that proves to be poison is kept whole.
    records: list[Any] = field(default_factory=list)
    # (topic, partition) -> the offset to commit: the last one read, plus one.
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    # ... in which generation of the partition they were read: see workers/kafka/offsets.py.
    generations: dict[tuple[str, int], int] = field(default_factory=dict)
    # What came back from forwarding: its offsets are held back until this is stored.
    held: list[Bundle] = field(default_factory=list)
    # Outcomes that are known without the database: ignored, dead, skipped, by type.
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    # Details that could not be used, by field.
    dropped: Counter[str] = field(default_factory=Counter)
    # Events that the database can never store; found while storing.
    poison: list[DeadLetter] = field(default_factory=list)
    size: int = 0  # records read, but for those that are dead letters already
    bytes: int = 0  # that they hold in memory
    taken_at: float = field(default_factory=time.monotonic)
    adopt: frozenset[UUID] = frozenset()  # bookings whose parked updates are looked at again

    def extend(self, other: "Batch") -> None:
        """Append what arrived later."""
        self.events += other.events
        self.records += other.records
        self.offsets |= other.offsets
        self.generations |= other.generations
        self.held += other.held
        self.outcomes += other.outcomes
        self.dropped += other.dropped
        self.poison += other.poison
        self.size += other.size
        self.bytes += other.bytes
        self.adopt |= other.adopt
