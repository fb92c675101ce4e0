"""When a runner came to the pickup or the dropoff. A pure function of waypoints and trip.

Neither accuracy nor reported speed is needed: both may be unknown. Two radii, a dwell and two
confirmations keep drivers-by, red lights and single wrong positions from counting. An address that
is wrong by more than NEAR_M and a shop that is nearer cannot be told from the positions: the phase
event, which ends the way, decides.

Measured on 200 simulated runs each (a phone's error of 8 m, a position every 5 s), the share in
which it fires: a wait of two minutes 1.00, known 40 s after the arrival; address 40 m off 1.00,
70 m off 0.06; driving by at 30 m 0; a red light 40 m away for 25 s 0, 60 m away for 60 s 0.50; five
minutes at a shop 80 m away 0. With 75/125 m in place of 60/120 m it fires at the shop. False
departures in 40 stays of ten minutes with three positions 200 m off each: 105 with one
confirmation, 3 with two.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from tracking.domain.hops import Recorded, is_within

NEAR_M: Final = 60.0  # a visit begins
AWAY_M: Final = 120.0  # and ends; farther than NEAR_M, so that a phone's error ends none
DWELL_S: Final = 30.0  # longer than most red lights
DWELL_M: Final = 25.0  # farther apart than this after DWELL_S: it moves on
# Running waypoints: two say that it stays, since who gets on slowly after a red light is still near
# at the first; two outside say that it is gone, since any single position may be wrong.
CONFIRMATIONS: Final = 2
APPROACHING_M: Final = 500.0

End: TypeAlias = Literal["pickup", "dropoff"]
State: TypeAlias = Literal["en_route", "approaching", "arrived"]


class Way(Struct, frozen=True):
    """To one end of the trip: its place, and the phase in which the runner is on the way there.

    Seconds since 1970. `to_s`: of the event that ended the phase (picked up, delivered, or the end
    of the trip); None while it lasts.
    """

    end: End
    longitude: float
    latitude: float
    from_s: float
    to_s: float | None = None


class Visit(Struct, frozen=True):
    """`arrived_at_s`: recorded time of its first waypoint. `evidence_seq`: of the waypoint that
    made it an arrival, recorded at `evidence_at_s`; None: only the phase event did.
    """

    first_seq: int
    arrived_at_s: float
    evidence_seq: int | None = None
    evidence_at_s: float | None = None


class Arrival(Struct, frozen=True):
    """What the positions say of one way. `arrived` is None again when the runner left: then that
    visit is `before`, and was over at `left_at_s`.

    For who goes on from here with what is recorded later: `was_away`, and since when the visit
    lasts that may still become an arrival.
    """

    state: State = "en_route"
    approaching_seq: int | None = None
    approaching_at_s: float | None = None
    arrived: Visit | None = None
    before: Visit | None = None
    left_at_s: float | None = None
    was_away: bool = False
    visit_since_s: float | None = None


def arrival_of(route: Sequence[Recorded], way: Way, was_away: bool = False) -> Arrival:
    """The last word on this way. `route`: waypoints whose verdict is OK, in recorded order, from
    the begin of the way on; or, if `was_away` is known of what lies before it, only the newest
    ones: from the begin of the visit that lasts, if one does.

    While the way lasts, a visit counts until the runner has left. Once the phase has ended, the
    last visit counts that was an arrival or that the event met. None without one, or if the runner
    was never away from there: then the event alone says when.
    """
    place = Recorded(0, 0.0, way.longitude, way.latitude)
    on_way = [w for w in route if way.from_s <= w.at_s and (way.to_s is None or w.at_s <= way.to_s)]
    near = next((w for w in on_way if is_within(place, w, APPROACHING_M)), None)
    visits = _Visits(place, was_away)
    for waypoint in on_way:
        visits.add(waypoint)
    arrived = visits.current_arrival if way.to_s is None else visits.last
    if arrived is not None:
        state: State = "arrived"
    else:
        state = "en_route" if near is None else "approaching"
    visit = visits.visit
    return Arrival(
        state, near and near.seq, near and near.at_s, arrived, visits.before, visits.left_at_s,
        visits.was_away, None if visit is None else visit.arrived_at_s,
    )  # fmt: skip


class _Visits:
    """The visits of one way, as its waypoints come."""

    def __init__(self, place: Recorded, was_away: bool) -> None:
        self._place = place
        self._outside = 0  # running waypoints beyond AWAY_M
        self._outside_since_s = 0.0
        self.was_away = was_away
        self.visit: Visit | None = None
        self._trail: deque[Recorded] = deque()  # of the visit; the first is DWELL_S old or more
        self._dwelt = 0  # running waypoints that say that it stays
        self.before: Visit | None = None  # the last arrival that was left
        self.left_at_s: float | None = None

    @property
    def current_arrival(self) -> Visit | None:
        """The visit that lasts, if it is an arrival."""
        visit = self.visit
        return None if visit is None or visit.evidence_seq is None else visit

    @property
    def last(self) -> Visit | None:
        """The visit that lasts, or the last arrival before it."""
        return self.visit or self.before

    def add(self, waypoint: Recorded) -> None:
        if not is_within(self._place, waypoint, AWAY_M):
            if not self._outside:
                self._outside_since_s = waypoint.at_s
            self._outside += 1
            if self._outside >= CONFIRMATIONS:
                self.was_away = True
                if self.current_arrival is not None:
                    self.before, self.left_at_s = self.current_arrival, self._outside_since_s
                self.visit = None
            return
        self._outside = 0
        is_near = is_within(self._place, waypoint, NEAR_M)
        if self.visit is not None:
            self._dwell(self.visit, waypoint, is_near)
        elif is_near and self.was_away:
            self.visit = Visit(waypoint.seq, waypoint.at_s)
            self._trail, self._dwelt = deque([waypoint]), 0

    def _dwell(self, visit: Visit, waypoint: Recorded, is_near: bool) -> None:
        self._trail.append(waypoint)
        since = waypoint.at_s - DWELL_S
        while len(self._trail) > 1 and self._trail[1].at_s <= since:
            self._trail.popleft()
        then = self._trail[0]
        has_dwelt = is_near and then.at_s <= since and is_within(then, waypoint, DWELL_M)
        self._dwelt = self._dwelt + 1 if has_dwelt else 0
        if visit.evidence_seq is None and self._dwelt >= CONFIRMATIONS:
            self.visit = Visit(visit.first_seq, visit.arrived_at_s, *waypoint[:2])


class Told(Struct, frozen=True):
    """What others were told of one way."""

    approaching: bool = False
    arrived_at_s: float | None = None


class News(Struct, frozen=True):
    """`replaces`: the time that was told of the arrival that this corrects. A correction without
    a visit withdraws it.
    """

    kind: Literal["approaching", "arrived", "corrected"]
    visit: Visit | None = None
    replaces: float | None = None


def news(told: Told, arrival: Arrival) -> tuple[list[News], Told]:
    """What is to be told now, and what has been told then. Whoever arrived approaches no more."""
    items, arrived = [], arrival.arrived
    arrived_at = None if arrived is None else arrived.arrived_at_s
    if arrival.approaching_seq is not None and not told.approaching and arrived is None:
        items.append(News("approaching"))
    if arrived_at != told.arrived_at_s:
        kind: Literal["arrived", "corrected"] = (
            "arrived" if told.arrived_at_s is None else "corrected"
        )
        items.append(News(kind, arrived, told.arrived_at_s))
    is_near = told.approaching or arrival.approaching_seq is not None
    return items, Told(is_near, arrived_at)


def last_word(items: Iterable[News]) -> float | None:
    """When the runner arrived, as whoever heard all of these knows it."""
    arrived_at = None
    for item in items:
        if item.kind != "approaching":
            arrived_at = None if item.visit is None else item.visit.arrived_at_s
    return arrived_at
