"""What the facts of a booking add up to. Pure functions; any thread may call.

Kafka keeps no order between two events of a booking, so nothing here depends on the order of
arrival: a trip is computed anew from all its facts, sorted by the time at which they occurred.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from tracking.domain.events import BookingEvent, Point

# Two clocks decide whether a waypoint lies inside an assignment: the phone's and the platform's.
GRACE: Final = timedelta(seconds=60)

# Of facts that occurred at the same instant, the one that ends the trip counts last.
_RANK: Final = {"requested": 0, "accepted": 1, "picked_up": 2, "abandoned": 3, "cancelled": 4}


class Assignment(Struct, frozen=True):
    """A runner had the booking from `started_at` to `ended_at` (None: still has)."""

    runner_id: UUID
    started_at: datetime
    ended_at: datetime | None

    def covers(self, recorded_at: datetime) -> bool:
        if recorded_at < self.started_at - GRACE:
            return False
        return self.ended_at is None or recorded_at <= self.ended_at + GRACE


class Trip(Struct):
    """A booking that was accepted at least once."""

    owner_id: UUID | None
    booking_number: str | None
    pickup: Point | None
    dropoff: Point | None
    runner_id: UUID
    started_at: datetime
    status: str = "active"
    phase: str = "to_pickup"
    picked_up_at: datetime | None = None
    completed_at: datetime | None = None
    end_reason: str | None = None
    assignments: tuple[Assignment, ...] = ()


def owner_of(facts: Collection[BookingEvent]) -> UUID | None:
    """The owner named by the earliest fact that names one."""
    return next((f.owner_id for f in _sorted(facts) if f.owner_id is not None), None)


def trip_of(facts: Collection[BookingEvent]) -> Trip | None:
    """The trip as its facts have it, in whatever order they came; None before any acceptance."""
    ordered = _sorted(facts)
    delivered = next((f for f in ordered if f.kind == "delivered"), None)
    course = _course(ordered, delivered)
    if not any(f.kind == "accepted" for f in course):
        return None
    trip = _new_trip(ordered, course)
    for fact in course:
        _apply(trip, fact)
    if delivered is not None:
        _end(trip, "completed", "delivered", _moment(delivered, trip.started_at))
    return trip


def _sorted(facts: Collection[BookingEvent]) -> list[BookingEvent]:
    def key(fact: BookingEvent) -> tuple[datetime, datetime, int, str]:
        # Kafka's time may bound several facts alike: then they are as far apart as they say.
        rank = _RANK.get(fact.kind, 9)
        return fact.believed_at, fact.occurred_at, rank, str(fact.runner_id)

    return sorted(facts, key=key)


def _course(facts: list[BookingEvent], delivered: BookingEvent | None) -> list[BookingEvent]:
    """What happened up to the delivery, which is final.

    A delivery that occurred before its acceptance (two producers' clocks) still has a runner.
    """
    if delivered is None:
        return facts
    before = [f for f in facts if f.believed_at <= delivered.believed_at]
    if any(f.kind == "accepted" for f in before):
        return before
    accepted = next((f for f in facts if f.kind == "accepted"), None)
    return before if accepted is None else [*before, accepted]


def _new_trip(facts: list[BookingEvent], course: list[BookingEvent]) -> Trip:
    accepted = next(f for f in course if f.kind == "accepted")
    runner_id = accepted.runner_id
    assert runner_id is not None  # checked when the event was decoded
    return Trip(
        owner_id=owner_of(facts),
        booking_number=next((f.booking_number for f in facts if f.booking_number), None),
        pickup=next((f.pickup for f in facts if f.pickup is not None), None),
        dropoff=next((f.dropoff for f in facts if f.dropoff is not None), None),
        runner_id=runner_id,
        started_at=accepted.believed_at,
    )


def _apply(trip: Trip, fact: BookingEvent) -> None:
    match fact.kind:
        case "accepted" if fact.runner_id is not None:
            _close_assignment(trip, fact.believed_at)
            new = Assignment(fact.runner_id, fact.believed_at, None)
            trip.assignments = (*trip.assignments, new)
            trip.runner_id = fact.runner_id
            trip.status, trip.phase = "active", "to_pickup"
            trip.picked_up_at = trip.completed_at = trip.end_reason = None
        case "picked_up" if trip.status == "active" and trip.assignments:
            trip.phase = "to_dropoff"
            trip.picked_up_at = _moment(fact, trip.started_at)
        case "cancelled" if trip.assignments:
            _end(trip, "cancelled", "cancelled", fact.believed_at)
        case "abandoned" if trip.status == "active" and trip.assignments:
            _end(trip, "completed", "abandoned", fact.believed_at)


def _end(trip: Trip, status: str, reason: str, at: datetime) -> None:
    _close_assignment(trip, at)
    trip.status, trip.phase, trip.end_reason, trip.completed_at = status, "done", reason, at


def _close_assignment(trip: Trip, at: datetime) -> None:
    if trip.assignments and trip.assignments[-1].ended_at is None:
        *earlier, last = trip.assignments
        closed = Assignment(last.runner_id, last.started_at, max(at, last.started_at))
        trip.assignments = (*earlier, closed)


def _moment(fact: BookingEvent, started_at: datetime) -> datetime:
    """What the runner's app says of the moment, where it can be true; else the event's own time."""
    if fact.at is not None and started_at <= fact.at <= fact.believed_at:
        return fact.at
    return fact.believed_at
