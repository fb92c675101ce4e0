"""When the runner of a trip will arrive at the end of the present way. Pure."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from tracking.domain.arrivals import End, Way
from tracking.domain.eta import Eta, History, NoEta, eta_of
from tracking.domain.hops import METRES_PER_DEGREE, Recorded, recorded
from tracking.domain.legs import Leg, current
from tracking.domain.routed import Answer
from tracking.domain.waypoints import StoredWaypoint

# So near in time is an approach, too.
SOON_S: Final = 180.0
# Who is farther away is not asked for: 100 km/h, as the crow flies.
FARTHEST_SOON_M: Final = 5_000
STEP_M: Final = 100

Place: TypeAlias = tuple[float, float]  # longitude, latitude


class Samples(Struct, frozen=True):
    """The history as it was stored, named by its newest row and how many there are."""

    newest: int = 0
    count: int = 0
    history: History = History()


class Ends(Struct, frozen=True):
    """Longitude and latitude; None where no event says."""

    pickup: Place | None = None
    dropoff: Place | None = None


def way_now(phase: str | None, ends: Ends) -> Way | None:
    """The way that the runner is on; None without a place."""
    if phase == "to_pickup" and ends.pickup is not None:
        return Way("pickup", *ends.pickup, 0.0)
    if phase == "to_dropoff" and ends.dropoff is not None:
        return Way("dropoff", *ends.dropoff, 0.0)
    return None


def trip_eta(
    history: History,
    *,
    status: str,
    phase: str | None,
    ends: Ends,
    legs: Sequence[Leg],
    last: StoredWaypoint | None,
    is_live: bool,
    answer: Answer | None = None,
) -> Eta | NoEta:
    """`is_live`: what is seen is true at this moment. Before the acceptance nobody is on it.

    `answer`: a router's newest, if one is asked.
    """
    if status in ("completed", "cancelled"):
        return NoEta("ended")
    leg = current(legs, phase)
    arrived = leg is not None and leg.state == "arrived"
    way = way_now(phase, ends)
    start = None if last is None else place_of(last)
    return eta_of(history, way, start, fresh=is_live, arrived=arrived, answer=answer)


def place_of(waypoint: StoredWaypoint) -> Recorded:
    """As the rules of motion see it."""
    return recorded(waypoint.seq, waypoint.recorded_at, waypoint.longitude, waypoint.latitude)


def is_soon(history: History, way: Way, waypoint: Recorded) -> bool:
    """Whether whoever is there arrives within SOON_S, as far as anybody can know."""
    eta = eta_of(history, way, waypoint, fresh=True, arrived=False)
    return isinstance(eta, Eta) and eta.arrives_at - waypoint.at_s <= SOON_S


def soon_m(history: History, end: End) -> float:
    """From how far away, at the most, somebody arrives there within SOON_S; 0 if nobody knows."""
    way = Way(end, 0.0, 0.0, 0.0)
    steps = range(STEP_M, FARTHEST_SOON_M + 1, STEP_M)
    near = [m for m in steps if is_soon(history, way, Recorded(0, 0.0, m / METRES_PER_DEGREE, 0.0))]
    return float(max(near) + STEP_M) if near else 0.0
