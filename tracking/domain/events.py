"""What Kafka brings, as values: `tracking.domain.decoding` makes them from bytes.

Nothing is checked again after that: times are aware, positions are on the globe, numbers are
finite.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

from msgspec import Struct

# A phone's clock may differ from the platform's by this much and still be believed.
CLOCK_TOLERANCE: Final = timedelta(seconds=60)
# Outside of it a number was read in the wrong unit (milliseconds for seconds) or made up.
FIRST_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
LAST_TIME: Final = datetime(2100, 1, 1, tzinfo=UTC)

Point: TypeAlias = tuple[float, float]  # longitude, latitude; WGS84 degrees


class LocationUpdate(Struct, frozen=True, gc=False):
    """One reported position. `recorded_at` is `reported_at` unless the phone's clock was ahead.

    `occurred_at` is the platform's own time of the report, at most a minute after Kafka's.
    """

    runner_id: UUID
    booking_id: UUID | None
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    reported_at: datetime
    received_at: datetime
    occurred_at: datetime | None = None


class BookingEvent(Struct, frozen=True, gc=False):
    """One fact of a booking's life. `at` is what the runner's app says of the same moment."""

    booking_id: UUID
    kind: str
    occurred_at: datetime
    runner_id: UUID | None = None
    owner_id: UUID | None = None
    booking_number: str | None = None
    at: datetime | None = None
    pickup: Point | None = None
    dropoff: Point | None = None
    heard_at: datetime | None = None  # Kafka's time of the earliest copy; None: as believable

    @property
    def believed_at(self) -> datetime:
        """When it occurred, which a clock that is ahead of Kafka's cannot put off."""
        if self.heard_at is None:
            return self.occurred_at
        return min(self.occurred_at, self.heard_at + CLOCK_TOLERANCE)


Event: TypeAlias = LocationUpdate | BookingEvent


# Types that say something about a booking -> the word under which it is stored.
BOOKING_KINDS: Final = {
    "booking.requested": "requested",
    "booking.accepted": "accepted",
    "booking.pet_picked_up": "picked_up",
    "booking.delivery_confirmed": "delivered",
    "booking.completed": "paid",
    "booking.cancelled": "cancelled",
}
# Known, and of no use here; like the unknown ones they are counted as ignored.
UNUSED_TYPES: Final = ("runner.online", "runner.offline", "runner.assigned")
KNOWN_TYPES: Final = frozenset({"runner.location_update", *BOOKING_KINDS, *UNUSED_TYPES})
