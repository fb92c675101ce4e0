"""tracking.domain.trips: what a booking's facts add up to, in whatever order they came."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID, uuid4

import pytest

from tracking.domain.events import BookingEvent
from tracking.domain.trips import Assignment, trip_of

BOOKING, OWNER, ANNA, BEN = uuid4(), uuid4(), UUID(int=1), UUID(int=2)
START = datetime(2026, 2, 6, 23, 50, tzinfo=UTC)


def minute(number: float) -> datetime:
    return START + timedelta(minutes=number)


def fact(kind: str, when: float, runner_id: UUID | None = None, **more: object) -> BookingEvent:
    return BookingEvent(BOOKING, kind, minute(when), runner_id, OWNER, **more)  # type: ignore[arg-type]


STORY = [
    fact("requested", -5, pickup=(106.8, -6.2), dropoff=(106.9, -6.3)),
    fact("accepted", 0, ANNA),
    fact("accepted", 10, BEN),
    fact("picked_up", 20, BEN),
    fact("delivered", 40, BEN, at=minute(39)),
]


@pytest.mark.parametrize("order", list(permutations(range(len(STORY)))))
def test_the_order_of_arrival_does_not_matter(order: tuple[int, ...]) -> None:
    trip = trip_of([STORY[i] for i in order])
    assert trip is not None
    assert (trip.status, trip.phase, trip.runner_id) == ("completed", "done", BEN)
    assert (trip.started_at, trip.picked_up_at, trip.completed_at) == (
        minute(0), minute(20), minute(39),
    )  # fmt: skip
    assert trip.assignments == (
        Assignment(ANNA, minute(0), minute(10)),
        Assignment(BEN, minute(10), minute(39)),
    )
    assert (trip.owner_id, trip.pickup, trip.dropoff) == (OWNER, (106.8, -6.2), (106.9, -6.3))


def test_the_pickup_of_a_runner_who_was_replaced_does_not_count() -> None:
    """A share link that begins with the pickup must not show the next runner's way to it."""
    story = [fact("accepted", 0, ANNA), fact("picked_up", 5, ANNA), fact("accepted", 10, BEN)]
    trip = trip_of(story)
    assert trip is not None
    assert (trip.phase, trip.picked_up_at) == ("to_pickup", None)
    again = trip_of([*story, fact("picked_up", 20, BEN)])
    assert again is not None
    assert again.picked_up_at == minute(20)


def test_there_is_no_trip_before_an_acceptance() -> None:
    assert trip_of([STORY[0], STORY[3], STORY[4]]) is None


def test_a_cancelled_booking_may_be_accepted_again() -> None:
    facts = [fact("accepted", 0, ANNA), fact("cancelled", 5)]
    cancelled = trip_of(facts)
    assert cancelled is not None
    assert (cancelled.status, cancelled.completed_at) == ("cancelled", minute(5))
    again = trip_of([*facts, fact("accepted", 9, BEN)])
    assert again is not None
    assert (again.status, again.phase, again.completed_at) == ("active", "to_pickup", None)
    assert [a.ended_at for a in again.assignments] == [minute(5), None]


def test_a_delivery_is_final() -> None:
    trip = trip_of([*STORY, fact("cancelled", 50), fact("accepted", 60, ANNA)])
    assert trip is not None
    assert (trip.status, trip.runner_id, trip.end_reason) == ("completed", BEN, "delivered")


def test_a_delivery_before_its_acceptance_still_has_a_runner() -> None:
    trip = trip_of([fact("accepted", 1, ANNA), fact("delivered", 0, ANNA)])
    assert trip is not None
    assert (trip.status, trip.runner_id) == ("completed", ANNA)


def test_an_abandoned_trip_goes_on_when_it_is_delivered_after_all() -> None:
    trip = trip_of([STORY[1], fact("abandoned", 100), fact("delivered", 120, ANNA)])
    assert trip is not None
    assert (trip.end_reason, trip.completed_at) == ("delivered", minute(120))


def test_a_payment_changes_nothing() -> None:
    assert trip_of(STORY) == trip_of([*STORY, fact("paid", 41, BEN)])
    assert trip_of(STORY[:2]) == trip_of([*STORY[:2], fact("paid", 41, ANNA)])


def test_an_impossible_moment_of_delivery_is_not_believed() -> None:
    trip = trip_of([STORY[1], fact("delivered", 40, ANNA, at=minute(-500_000))])
    assert trip is not None
    assert trip.completed_at == minute(40)


def test_an_assignment_covers_a_minute_more_at_both_ends() -> None:
    assignment = Assignment(ANNA, minute(0), minute(10))
    covered = [assignment.covers(minute(at)) for at in (-1.01, -1, 5, 11, 11.01)]
    assert covered == [False, True, True, True, False]
