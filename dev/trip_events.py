"""The events that the platform would publish of a trip. Pure: no clock, no Kafka."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from random import Random

from dev.events import (
    BOOKING,
    RUNNER,
    BookingChanged,
    BookingRequested,
    Event,
    LocationUpdate,
    rfc3339,
)
from dev.faults import SECOND_NS, Fault, Report, duplicates, jumps, one_after_another, skew, tunnel
from dev.trips import Plan, Trip, random_uuid, trips_of

COMPLETED_AFTER_S = 2.0  # from the delivery to the payment
UNKNOWN = 0.03  # share of the positions for which a phone knows neither speed nor heading
MEASURABLE_KMH = 500.0  # with a high --speed a runner is faster than the service takes for a speed
NOISE_DEGREES = 1.5e-5  # about 1.7 m, a phone's error under an open sky
PETS = (("cat", "Miso"), ("cat", "Kiki"), ("dog", "Bruno"), ("dog", "Luna"), ("rabbit", "Mochi"))


def events_of(trip: Trip) -> Iterator[Event]:
    """From `booking.requested` to `booking.completed`, in the order in which they are due."""
    events = heapq.merge(_booking_events(trip), _update_events(trip), key=itemgetter(0))
    if Fault.DUPLICATES in trip.plan.faults:
        return duplicates(events, trip.random("duplicates"))
    return events


def events_in(plan: Plan, *, again: bool = False) -> Iterator[Event]:
    """The events of all runners, in the order in which they are due.

    Each runner drives one trip, or with `again` one after another without end.
    """
    lanes = [_runner_events(plan, runner, again) for runner in range(plan.runners)]
    return heapq.merge(*lanes, key=itemgetter(0))


def _runner_events(plan: Plan, runner: int, again: bool) -> Iterator[Event]:
    for trip in islice(trips_of(plan, runner), None if again else 1):
        yield from events_of(trip)


def _booking_events(trip: Trip) -> Iterator[Event]:
    ids = trip.random("booking events")
    yield _event(ids, BOOKING, "booking.requested", trip.requested_ns, _requested(trip))
    accepted = _changed(trip, trip.accepted_ns)
    yield _event(ids, BOOKING, "booking.accepted", trip.accepted_ns, accepted)
    picked_up = trip.accepted_ns + round(trip.course.picked_up_s * SECOND_NS)
    data = _changed(trip, picked_up, picked_up_at=rfc3339(picked_up))
    yield _event(ids, BOOKING, "booking.pet_picked_up", picked_up, data)
    delivered = trip.delivered_ns
    data = _changed(trip, delivered, delivered_at=rfc3339(delivered))
    yield _event(ids, BOOKING, "booking.delivery_confirmed", delivered, data)
    completed = delivered + round(COMPLETED_AFTER_S * SECOND_NS)
    data = _changed(
        trip, completed, final_price_cents=_price_cents(trip), currency=trip.city.currency
    )
    yield _event(ids, BOOKING, "booking.completed", completed, data)


def _requested(trip: Trip) -> BookingRequested:
    pet_type, pet_name = trip.random("pet").choice(PETS)
    pickup, dropoff = trip.course.pickup, trip.course.dropoff
    return BookingRequested(
        booking_id=trip.booking_id,
        booking_number=_number(trip),
        owner_id=trip.owner_id,
        pet_type=pet_type,
        pet_name=pet_name,
        pickup_lat=round(pickup.latitude, 7),
        pickup_lng=round(pickup.longitude, 7),
        dropoff_lat=round(dropoff.latitude, 7),
        dropoff_lng=round(dropoff.longitude, 7),
        estimated_price_cents=_price_cents(trip),
        currency=trip.city.currency,
        occurred_at=rfc3339(trip.requested_ns),
    )


def _changed(
    trip: Trip,
    occurred_ns: int,
    *,
    picked_up_at: str | None = None,
    delivered_at: str | None = None,
    final_price_cents: int | None = None,
    currency: str | None = None,
) -> BookingChanged:
    return BookingChanged(
        booking_id=trip.booking_id,
        booking_number=_number(trip),
        runner_id=trip.runner_id,
        owner_id=trip.owner_id,
        occurred_at=rfc3339(occurred_ns),
        picked_up_at=picked_up_at,
        delivered_at=delivered_at,
        final_price_cents=final_price_cents,
        currency=currency,
    )


def _number(trip: Trip) -> str:
    day = rfc3339(trip.requested_ns)[:10].replace("-", "")
    return f"BK-{day}-{trip.booking_id[:8].upper()}"


def _price_cents(trip: Trip) -> int:
    return 500 + round(trip.course.delivered_s * trip.plan.speed)


def _update_events(trip: Trip) -> Iterator[Event]:
    ids = trip.random("update events")
    known = trip.random("phone").random() >= trip.plan.unknown_booking
    booking_id = trip.booking_id if known else None
    for report in _reports(trip):
        data = LocationUpdate(
            runner_id=trip.runner_id,
            booking_id=booking_id,
            latitude=round(report.latitude, 7),
            longitude=round(report.longitude, 7),
            speed_kmh=round(report.speed_kmh, 2),
            heading_degrees=round(report.heading_degrees, 1),
            timestamp=rfc3339(report.recorded_ns, 3),  # phones count milliseconds
            occurred_at=rfc3339(report.sent_ns),
        )
        yield _event(ids, RUNNER, "runner.location_update", report.sent_ns, data)


def _reports(trip: Trip) -> Iterator[Report]:
    reports, faults = _measured(trip), trip.plan.faults
    if Fault.TUNNEL in faults:
        reports = tunnel(reports, trip.random("tunnel"))
    if Fault.JUMPS in faults:
        reports = jumps(reports, trip.random("jumps"))
    if Fault.SKEW in faults:
        reports = skew(reports, trip.random("skew"))
    return one_after_another(reports)


def _measured(trip: Trip) -> Iterator[Report]:
    random, noise = trip.random("noise"), 0.0 if trip.plan.gpx else NOISE_DEGREES
    for seconds, (latitude, longitude, speed, heading) in trip.course.positions():
        recorded_ns = trip.accepted_ns + round(seconds * SECOND_NS)
        if random.random() < UNKNOWN or speed > MEASURABLE_KMH:
            speed = heading = -1.0
        if speed < 1.0:
            heading = -1.0  # a phone that stands still has no heading
        yield Report(
            recorded_ns,
            recorded_ns + 2_000_000 + int(random.random() * 2_000_000),
            latitude + random.gauss(0.0, noise),
            longitude + random.gauss(0.0, noise),
            speed,
            heading,
        )


def _event(
    ids: Random,
    source: str,
    type_: str,
    occurred_ns: int,
    data: BookingRequested | BookingChanged | LocationUpdate,
) -> Event:
    # The envelope is written a moment after what it tells of.
    time_ns = occurred_ns + 150_000 + ids.randrange(100_000)
    return Event(time_ns, random_uuid(ids), source, type_, rfc3339(time_ns), data)
