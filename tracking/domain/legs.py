"""A trip's ways to its two ends, and what was said of each. Pure; any thread may call."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from tracking.domain.arrivals import Arrival, End, State, Told, Way

# An arrival that is known so much later is told as a late one, and no approach any more.
LATE_S: Final = 900.0

Standing: TypeAlias = Literal["approaching", "arrived", "left"]


class Course(Struct, frozen=True):
    """What a trip's ways depend on. Places as longitude and latitude, None where no event says.

    `since_s`: the present runner has the booking. `is_delivered`: by the event, so that the trip's
    end is an arrival; who cancels is nowhere in particular.
    """

    since_s: float
    picked_up_s: float | None
    ended_s: float | None
    is_delivered: bool
    pickup: tuple[float, float] | None
    dropoff: tuple[float, float] | None


def ways_of(course: Course) -> list[Way]:
    """To the pickup, then to the dropoff, as far as they have begun and their ends are known."""
    met = course.ended_s if course.is_delivered else None
    ways = []
    if course.pickup is not None:
        to_s = met if course.picked_up_s is None else course.picked_up_s
        ways.append(Way("pickup", *course.pickup, course.since_s, to_s))
    if course.dropoff is not None and (course.picked_up_s is not None or course.is_delivered):
        from_s = course.since_s if course.picked_up_s is None else course.picked_up_s
        ways.append(Way("dropoff", *course.dropoff, from_s, met))
    return ways


class Leg(Struct, frozen=True, array_like=True):
    """What is said of one way now. Times: recorded ones, but `detected_at`.

    `evidence_seq`: of the waypoint that made it an arrival; None where only the phase event did.
    `left_at`: the runner had arrived, and left before the phase event.
    """

    end: End
    state: State = "en_route"
    approaching_at: datetime | None = None
    arrived_at: datetime | None = None
    detected_at: datetime | None = None
    evidence_seq: int | None = None
    left_at: datetime | None = None

    @property
    def told(self) -> Told:
        """What others know of it."""
        at = None if self.arrived_at is None else self.arrived_at.timestamp()
        return Told(self.approaching_at is not None, at)


def current(legs: Iterable[Leg], phase: str | None) -> Leg | None:
    """The way that the runner is on; None where nothing is said of it."""
    end = {"to_pickup": "pickup", "to_dropoff": "dropoff"}.get(phase or "")
    return next((leg for leg in legs if leg.end == end), None)


def standing(leg: Leg | None) -> tuple[Standing, datetime] | None:
    """In one word, and since when; None while nothing is to be said.

    Who has left stays so until he arrives again: an approach is told once.
    """
    if leg is None:
        return None
    if leg.arrived_at is not None:
        return "arrived", leg.arrived_at
    if leg.left_at is not None:
        return "left", leg.left_at
    return None if leg.approaching_at is None else ("approaching", leg.approaching_at)


def is_same_visit(leg: Leg, arrival: Arrival) -> bool:
    """The arrival that was told has been left: it was one."""
    before = arrival.before
    return before is not None and before.arrived_at_s == leg.told.arrived_at_s
