"""Trips of runners: the same for the same plan, every time. Pure: no clock, no Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from random import Random
from uuid import UUID

from dev.courses import Course, GpxCourse, StreetCourse
from dev.faults import SECOND_NS, Fault
from dev.gpx import GpxPoint
from dev.streets import CITIES, KUALA_LUMPUR, City, Crossing, any_crossing

ACCEPTED_AFTER_S = 3.0  # from the request to the runner's yes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that the events depend on."""

    seed: int
    runners: int
    interval_s: float  # between two updates of one runner
    start_ns: int  # of the first request, nanoseconds since 1970
    speed: float = 1.0  # of the runners, times the usual one
    rush_hours: bool = False  # slower in the morning and in the evening
    unknown_booking: float = 0.0  # share of the trips whose phone does not know the booking
    faults: frozenset[Fault] = frozenset()
    gpx: tuple[GpxPoint, ...] = ()  # every trip follows this track, if there is one
    gpx_own_times: bool = True


@dataclass(frozen=True, kw_only=True)
class Trip:
    """One booking, and the runner who drives it."""

    plan: Plan
    name: str  # seed, runner and number: what the trip's chances hang on
    requested_ns: int
    city: City
    start: Crossing
    runner_id: str

    @cached_property
    def booking_id(self) -> str:
        """Random, and the same for the same name."""
        return random_uuid(self.random("booking"))

    @cached_property
    def owner_id(self) -> str:
        """As the booking's id."""
        return random_uuid(self.random("owner"))

    @cached_property
    def course(self) -> Course:
        """Built when first asked for: a thousand trips take a while."""
        plan = self.plan
        if plan.gpx:
            interval_s = None if plan.gpx_own_times else plan.interval_s
            return GpxCourse(list(plan.gpx), interval_s, plan.speed)
        random = self.random("course")
        pace = self.city.pace(self.accepted_ns) if plan.rush_hours else 1.0
        return StreetCourse(self.city, self.start, random, plan.interval_s, plan.speed * pace)

    @property
    def accepted_ns(self) -> int:
        """When the track begins."""
        return self.requested_ns + round(ACCEPTED_AFTER_S * SECOND_NS)

    @property
    def delivered_ns(self) -> int:
        """When the track is complete."""
        return self.accepted_ns + round(self.course.delivered_s * SECOND_NS)

    def random(self, purpose: str) -> Random:
        """A sequence of its own for each purpose: so one option does not change all the rest."""
        return Random(f"{self.name}/{purpose}")


def trips_of(plan: Plan, runner: int) -> Iterator[Trip]:
    """The trips of one runner (0 to runners - 1), one after another, without end."""
    random = Random(f"{plan.seed}/{runner}")
    runner_id, city, start = random_uuid(random), random.choice(CITIES), any_crossing(random)
    # Spread over one interval, so that not all phones send at the same moment.
    requested_ns = plan.start_ns + round(runner / plan.runners * plan.interval_s * SECOND_NS)
    number = 0
    while True:
        trip = Trip(
            plan=plan,
            name=f"{plan.seed}/{runner}/{number}",
            requested_ns=requested_ns,
            city=KUALA_LUMPUR if plan.gpx else city,
            start=start,
            runner_id=runner_id,
        )
        yield trip
        number += 1
        # Longer than the longest tunnel and the latest duplicate: a trip is over before the next.
        requested_ns = trip.delivered_ns + round(random.uniform(45, 75) * SECOND_NS)
        start = trip.course.end if isinstance(trip.course, StreetCourse) else start


def random_uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
