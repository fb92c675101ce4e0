"""dev.trips: a seed and its events."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from dev.events import BookingRequested, Event, LocationUpdate, nanoseconds
from dev.faults import SECOND_NS, Fault
from dev.trip_events import events_in, events_of
from dev.trips import Plan, trips_of

PLAN = Plan(seed=7, runners=3, interval_s=2.0, start_ns=nanoseconds("2026-02-06T10:30:00Z"))
FAULTY = replace(PLAN, faults=frozenset(Fault))


def updates(plan: Plan) -> list[LocationUpdate]:
    return [e.data for e in events_in(plan) if isinstance(e.data, LocationUpdate)]


@pytest.mark.parametrize("interval_s", [0.0005, 0.02, 5.0])
def test_events_come_in_the_order_in_which_they_are_due_whatever_goes_wrong(
    interval_s: float,
) -> None:
    plan = replace(FAULTY, interval_s=interval_s)
    due = [event.due_ns for event in islice(events_in(plan, again=True), 20_000)]
    assert due == sorted(due)


def test_a_trip_is_over_before_its_runners_next_one_begins() -> None:
    for seed in range(20):
        trips = islice(trips_of(replace(FAULTY, seed=seed, interval_s=5.0), 0), 3)
        lives = [[event.due_ns for event in events_of(trip)] for trip in trips]
        assert all(before[-1] < after[0] for before, after in pairwise(lives))


def test_the_start_moves_all_times_and_changes_nothing_else() -> None:
    later = replace(FAULTY, start_ns=FAULTY.start_ns + 3600 * SECOND_NS)
    for one, other in zip(events_in(FAULTY), events_in(later), strict=True):
        assert (one.id, one.type) == (other.id, other.type)
        assert other.due_ns - one.due_ns == 3600 * SECOND_NS


def test_the_rate_changes_how_often_and_not_where_to() -> None:
    def booked(plan: Plan) -> list[tuple[str, float, float]]:
        requests = [e.data for e in events_in(plan) if isinstance(e.data, BookingRequested)]
        return [(data.booking_id, data.pickup_lat, data.dropoff_lng) for data in requests]

    assert booked(PLAN) == booked(replace(PLAN, interval_s=10.0))


def test_in_rush_hours_the_same_way_takes_longer() -> None:
    for runner in range(3):  # at 18:30 and 17:30 of their cities
        usual = next(trips_of(PLAN, runner)).course
        rush = next(trips_of(replace(PLAN, rush_hours=True), runner)).course
        assert rush.dropoff == usual.dropoff
        assert rush.picked_up_s == pytest.approx(usual.picked_up_s / 0.6)


def test_faults_on_a_phone_lose_and_invent_no_update() -> None:
    ids = {event.id for event in events_in(PLAN)}
    faulty = Counter(event.id for event in events_in(FAULTY))
    assert set(faulty) == ids
    assert set(faulty.values()) == {1, 2}


def test_updates_begin_with_the_acceptance_and_end_with_the_delivery() -> None:
    trip = next(trips_of(PLAN, 0))
    due = [e.due_ns for e in events_of(trip) if e.type == "runner.location_update"]
    assert trip.accepted_ns <= due[0]
    assert due[-1] <= trip.delivered_ns + SECOND_NS


def test_a_faster_runner_arrives_sooner_and_says_so() -> None:
    usual, fast = updates(PLAN), updates(replace(PLAN, speed=3.0))
    assert len(fast) < len(usual) / 2.5
    assert max(u.speed_kmh for u in fast) == pytest.approx(
        3 * max(u.speed_kmh for u in usual), rel=0.1
    )


def test_phones_sometimes_know_neither_speed_nor_heading() -> None:
    unknown = [u for u in updates(PLAN) if u.speed_kmh == -1]
    assert unknown
    assert all(u.heading_degrees == -1 for u in unknown)
    assert len(unknown) < len(updates(PLAN)) / 10


def test_a_share_of_the_phones_does_not_know_the_booking() -> None:
    plan = replace(PLAN, runners=40, unknown_booking=0.5)
    phones = {(u.runner_id, u.booking_id is None) for u in updates(plan)}
    assert len(phones) == 40
    assert 8 < sum(unknown for _, unknown in phones) < 32


@pytest.mark.parametrize(
    ("fault", "is_seen"),
    [
        (Fault.TUNNEL, lambda e: late_s(e) > 5),
        (Fault.SKEW, lambda e: abs(late_s(e)) > 4),
        (Fault.JUMPS, lambda e: e.data.latitude == 0 == e.data.longitude),
    ],
)
def test_a_fault_is_there_only_when_asked_for(
    fault: Fault, is_seen: Callable[[Event], bool]
) -> None:
    def seen(plan: Plan) -> int:
        events = events_in(replace(plan, runners=8))
        return sum(is_seen(e) for e in events if isinstance(e.data, LocationUpdate))

    assert seen(PLAN) == 0
    assert seen(replace(PLAN, faults=frozenset({fault}))) > 0


def late_s(event: Event) -> float:
    """From the phone's clock to the runner service's."""
    assert isinstance(event.data, LocationUpdate)
    late_ns = nanoseconds(event.data.occurred_at) - nanoseconds(event.data.timestamp)
    return late_ns / SECOND_NS
