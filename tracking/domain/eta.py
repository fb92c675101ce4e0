"""When a runner will arrive, from how long others took. Pure; no road graph.

Of finished ways, at the first waypoint within each distance band, the ratio of seconds until the
arrival to metres in a straight line is kept: the last SAMPLES of each phase and band. An ETA is the
present distance times their median; its band lies between the order statistics that hold 80 % with
(n + 1) in place of n. That is split conformal prediction (Romano et al. 2019) of a scale model
(Wang et al., "A simple baseline for travel time estimation", arXiv 1512.08580): it holds on average
over trips, not for each kind of trip.

Measured each minute of 1,200 simulated ways (streets, red lights, rush hours; three seeds), after
the first FEWEST: the band holds 82 to 83 % of the arrivals, 80 to 94 % at each distance; the mean
error is 0.1 min within 250 m, 0.35 at 0.5 to 1 km, 0.6 at 1 to 2 km, 0.9 to 1.0 at 2 to 4 km, the
band's width 0.3, 1.3, 2.5 and 4 to 5 min.

Where a router is asked (ETA_ROUTER_URL), the same is kept of its seconds in place of the metres,
and used in the same way; where that says nothing, the distance does.

A sample is a phase, metres and seconds: no id and no place, so there is nothing to erase.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from tracking.domain.arrivals import Way
from tracking.domain.hops import Recorded, metres_between
from tracking.domain.routed import Answer, is_usable

# Where bands begin, in metres; beyond the last one there is one more.
BANDS_M: Final = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
# On real taxi trips the last 300 and the last 1,000 gave the same coverage.
SAMPLES: Final = 500
# With fewer the 10th and 90th order statistics are guesses; 50 trips hold 0.80 ± 0.06.
FEWEST: Final = 30
COVERED: Final = 0.8
# A new ETA is told when it differs by more than this.
NEWS_S: Final = 60.0
NEWS_SHARE: Final = 0.1  # of what is left

Phase: TypeAlias = Literal["to_pickup", "to_dropoff"]
Method: TypeAlias = Literal["distance", "router"]
METHODS: Final[tuple[Method, ...]] = ("distance", "router")
Reason: TypeAlias = Literal["no_destination", "stale", "not_enough_history", "arrived", "ended"]


class Sample(NamedTuple):
    """From a waypoint, metres in a straight line and seconds until the arrival.

    Where a router was asked, from a waypoint in the same band: the seconds that it said, and that
    it took from there.
    """

    phase: Phase
    metres: float
    seconds: float
    router_s: float | None = None
    router_took_s: float | None = None


class Eta(Struct, frozen=True):
    """Seconds since 1970; with a chance of 80 % the arrival is between `earliest` and `latest`.

    `samples`: of how many ratios. `method`: what they were multiplied with.
    """

    arrives_at: float
    earliest: float
    latest: float
    method: Method
    samples: int


class NoEta(Struct, frozen=True):
    """There is none, and why."""

    reason: Reason


def band_of(metres: float) -> int:
    """The number of the distance band, 0 for the nearest: [0, 250), [250, 500), …"""
    return bisect_right(BANDS_M, metres)


def phase_of(way: Way) -> Phase:
    """The phase in which a runner is on this way."""
    return "to_pickup" if way.end == "pickup" else "to_dropoff"


def distance_m(way: Way, waypoint: Recorded) -> float:
    """Metres in a straight line."""
    return metres_between(way.longitude, way.latitude, waypoint)


def samples_of(route: Sequence[Recorded], way: Way, arrived_at_s: float) -> list[Sample]:
    """Of a finished way: one for each band that it touched. `route`: verdict OK, in recorded order.

    Its label is the arrival, since a delivery includes the handing over.
    """
    samples: dict[int, Sample] = {}
    for waypoint in route:
        if not way.from_s <= waypoint.at_s < arrived_at_s:
            continue
        metres = distance_m(way, waypoint)
        if metres > 0 and band_of(metres) not in samples:
            seconds = arrived_at_s - waypoint.at_s
            samples[band_of(metres)] = Sample(phase_of(way), metres, seconds)
    return list(samples.values())


class History:
    """The last ratios of each phase and band. One thread at a time.

    In whatever process: it is rebuilt from stored samples, oldest first.
    """

    def __init__(self, limit: int = SAMPLES) -> None:
        self._limit = limit
        self._ratios: dict[tuple[Method, Phase, int], _Ratios] = {}

    def add(self, sample: Sample) -> None:
        """The newest; the oldest of its phase and band makes room."""
        self._add("distance", sample, sample.seconds / sample.metres)
        if sample.router_s and sample.router_took_s:
            self._add("router", sample, sample.router_took_s / sample.router_s)

    def _add(self, method: Method, sample: Sample, ratio: float) -> None:
        key = method, sample.phase, band_of(sample.metres)
        if key not in self._ratios:
            self._ratios[key] = _Ratios(self._limit)
        self._ratios[key].add(ratio)

    def ratios(self, phase: Phase, band: int, method: Method = "distance") -> Sequence[float]:
        """In order of size: seconds a metre, or seconds for each second of a router's."""
        known = self._ratios.get((method, phase, band))
        return () if known is None else known.ordered


class _Ratios:
    def __init__(self, limit: int) -> None:
        self._recent: deque[float] = deque()
        self._limit = limit
        self.ordered: list[float] = []

    def add(self, ratio: float) -> None:
        if len(self._recent) == self._limit:
            del self.ordered[bisect_left(self.ordered, self._recent.popleft())]
        self._recent.append(ratio)
        insort(self.ordered, ratio)


def estimate(
    history: History, phase: Phase, metres: float, at_s: float, router_s: float | None = None
) -> Eta | NoEta:
    """For a runner who was so far away at that time (recorded, seconds since 1970): by the metres,
    or, where a router was asked, by its seconds.
    """
    method: Method = "distance" if router_s is None else "router"
    ratios = history.ratios(phase, band_of(metres), method)
    if len(ratios) < FEWEST:
        return NoEta("not_enough_history")
    low, high = conformal_ranks(len(ratios), COVERED)
    middle = ratios[(len(ratios) - 1) // 2]
    scale = metres if router_s is None else router_s
    return Eta(
        at_s + scale * middle,
        at_s + scale * ratios[low - 1],
        at_s + scale * ratios[high - 1],
        method,
        len(ratios),
    )


def conformal_ranks(count: int, covered: float) -> tuple[int, int]:
    """The ranks, from 1, between which a further value falls with at least that chance.

    A further value has each of count + 1 ranks with the same chance.
    """
    tail = (1 - covered) / 2
    low = math.floor((count + 1) * tail + 1e-9)
    return max(1, low), min(count, math.ceil((count + 1) * (1 - tail) - 1e-9))


def eta_of(
    history: History,
    way: Way | None,
    last: Recorded | None,
    *,
    fresh: bool,
    arrived: bool,
    answer: Answer | None = None,
) -> Eta | NoEta:
    """What is said of a trip now. `last`: its newest waypoint with verdict OK.

    A way whose phase has ended is no way any more; without a destination, `way` is None. `answer`:
    the newest of a router; by the distance where it is too old, or has too little history.
    """
    if way is None:
        return NoEta("no_destination")
    if way.to_s is not None:
        return NoEta("ended")
    if arrived:
        return NoEta("arrived")
    if last is None or not fresh:
        return NoEta("stale")
    if answer is not None and is_usable(answer, way, last):
        routed = estimate(history, phase_of(way), answer.metres, answer.start.at_s, answer.seconds)
        # Whoever is not there though he should be is better told by where he is.
        if isinstance(routed, Eta) and routed.arrives_at > last.at_s:
            return routed
    return estimate(history, phase_of(way), distance_m(way, last), last.at_s)


def is_news(told: Eta | NoEta | None, new: Eta | NoEta, now_s: float) -> bool:
    """Whether it differs enough from what was told to be told: by more than a minute, and by more
    than a tenth of what is left; or there was none, or is none, or for another reason.
    """
    if isinstance(told, Eta) and isinstance(new, Eta):
        left_s = max(0.0, new.arrives_at - now_s)
        moved_s = abs(new.arrives_at - told.arrives_at)
        return moved_s > max(NEWS_S, NEWS_SHARE * left_s)
    return told != new
