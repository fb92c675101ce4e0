"""What must come out, whatever happened on the way: a model that shares no code with the service.

It reads events as their producers wrote them, (type, data), in any order, and where it matters when
Kafka got them, (type, data, time). It knows of no database, batch or clock: only the rules of
`docs/architecture.md`. Times are aware datetimes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from math import acos, cos, radians, sin
from typing import Any, NamedTuple

from pyproj import Geod

Event = tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], datetime]
# Recorded, runner, reported, longitude, latitude: the order of the route.
Waypoint = tuple[datetime, str, datetime, float, float]

MINUTE = timedelta(seconds=60)
RANK = ("booking.accepted", "booking.pet_picked_up", "booking.cancelled")
EARTH = Geod(ellps="WGS84")


class Fact(NamedTuple):
    """A booking event; `at` is when it occurred, as far as that is believed."""

    at: datetime
    told: datetime
    rank: int
    runner: str
    type: str
    data: Mapping[str, Any]


class Outcome(NamedTuple):
    """A trip and its route."""

    status: str
    phase: str
    runner_id: str
    completed_at: datetime | None
    route: list[Waypoint]
    distance_mm: int  # of the waypoints that are not left out
    reported_mm: int  # of all
    verdicts: list[int]  # of each of the route: 0 kept, 1 left out, 3 left out for the time being


def outcomes(events: Iterable[Event]) -> dict[str, Outcome]:
    """By booking id, for every booking that was accepted."""
    facts: dict[str, dict[Any, Fact]] = defaultdict(dict)
    updates = []
    for type_, data, *rest in events:
        heard = rest[0] if rest else None
        if type_ == "runner.location_update":
            updates.append((data, _believed(data, heard)))
        elif type_.startswith("booking."):
            fact = _fact(type_, data, heard)
            known = facts[data["booking_id"]]
            key = fact[1:5]
            known[key] = min(known.get(key, fact), fact, key=lambda f: f.at)
    trips = {booking_id: _trip([*known.values()]) for booking_id, known in facts.items()}
    return {b: _outcome(b, *trip, updates) for b, trip in trips.items() if trip is not None}


def _believed(data: Mapping[str, Any], heard: datetime | None) -> datetime:
    """When it occurred: not later than a minute after Kafka got it."""
    told = _time(data["occurred_at"]) if data.get("occurred_at") else heard
    assert told is not None
    return told if heard is None else min(told, heard + MINUTE)


def _fact(type_: str, data: Mapping[str, Any], heard: datetime | None) -> Fact:
    """Of facts of one instant: acceptance, pick-up, cancellation; then by runner."""
    rank = RANK.index(type_) if type_ in RANK else len(RANK)
    told, runner = _time(data["occurred_at"]), str(data.get("runner_id"))
    return Fact(_believed(data, heard), told, rank, runner, type_, data)


def _trip(facts: list[Fact]) -> tuple[str, str, datetime | None, list[list[Any]]] | None:
    """Status, phase, end, and who had the booking from when to when."""
    ordered = sorted(facts, key=lambda fact: fact[:5])
    accepted = [f.at for f in ordered if f.type == "booking.accepted"]
    delivery = next((f for f in ordered if f.type == "booking.delivery_confirmed"), None)
    if not accepted:
        return None
    status, phase, completed, had = "", "", None, list[list[Any]]()
    for fact in ordered:
        if delivery is not None and fact.at > delivery.at and (
            had or fact.type != "booking.accepted"
        ):  # fmt: skip
            continue  # a delivery is final, but it must have had an acceptance
        if fact.type == "booking.accepted":
            _close(had, fact.at)
            had.append([fact.data["runner_id"], fact.at, None])
            status, phase, completed = "active", "to_pickup", None
        elif fact.type == "booking.pet_picked_up" and status == "active":
            phase = "to_dropoff"
        elif fact.type == "booking.cancelled" and had:
            _close(had, fact.at)
            status, phase, completed = "cancelled", "done", fact.at
    if delivery is not None:
        told = _time(delivery.data.get("delivered_at", delivery.data["occurred_at"]))
        end = told if accepted[0] <= told <= delivery.at else delivery.at
        _close(had, end)
        status, phase, completed = "completed", "done", end
    return status, phase, completed, had


def _close(had: list[list[Any]], at: datetime) -> None:
    if had and had[-1][2] is None:
        had[-1][2] = max(at, had[-1][1])


def _outcome(
    booking_id: str, status: str, phase: str, completed: datetime | None,
    had: list[list[Any]], updates: list[tuple[Mapping[str, Any], datetime]],
) -> Outcome:  # fmt: skip
    found: dict[tuple[Any, ...], Waypoint] = {}
    for data, occurred in updates:
        place = (float(data["longitude"]), float(data["latitude"]))
        if data.get("booking_id") in (None, booking_id) and place != (0.0, 0.0):
            recorded, reported = _recorded(data, occurred, had[0][1]), _time(data["timestamp"])
            if any(_covers(each, data["runner_id"], recorded) for each in had):
                waypoint = (recorded, data["runner_id"], reported, *place)
                # Copies of a report, of which one was heard of earlier than the other.
                found[waypoint[1:]] = min(found.get(waypoint[1:], waypoint), waypoint)
    route = sorted(found.values())
    verdicts = _verdicts(route, is_over=status != "active")
    kept = [w for w, verdict in zip(route, verdicts, strict=True) if not verdict]
    lengths = (_millimetres(kept), _millimetres(route))
    return Outcome(status, phase, had[-1][0], completed, route, *lengths, verdicts)


def _millimetres(route: list[Waypoint]) -> int:
    legs = [EARTH.inv(*a[3:], *b[3:])[2] for a, b in pairwise(route)]
    return sum(round(metres * 1000) for metres in legs)


def _verdicts(route: list[Waypoint], *, is_over: bool) -> list[int]:
    """The longest chain of hops at 150 km/h and 100 m, each past at most 29 waypoints, is kept.

    Chains as tuples of indexes; of equal ones the first to end, with the nearest predecessors. With
    more than four and a fifth left out before its end, only what is behind the end is left out.
    """
    chains: list[tuple[int, ...]] = []
    for index, waypoint in enumerate(route):
        behind = [
            chains[other]
            for other in range(max(0, index - 30), index)
            if _is_reached(route[other], waypoint)
        ]
        nearest = max(reversed(behind), key=len, default=())
        chains.append((*nearest, index))
    kept = max(chains, key=len, default=())
    count = kept[-1] + 1 if kept else 0
    out = 0 if count - len(kept) > max(4, count / 5) else 1
    return [
        (1 if is_over else 3) if index >= count else (0 if index in kept else out)
        for index in range(len(route))
    ]


def _is_reached(one: Waypoint, other: Waypoint) -> bool:
    """By the law of cosines on a sphere: exact to some centimetres."""
    x, y, to_x, to_y = map(radians, (*one[3:], *other[3:]))
    cosine = sin(y) * sin(to_y) + cos(y) * cos(to_y) * cos(to_x - x)
    metres = 6_371_008.8 * acos(max(-1.0, min(1.0, cosine)))
    return metres <= 150 / 3.6 * (other[0] - one[0]).total_seconds() + 100


def _recorded(data: Mapping[str, Any], occurred: datetime, accepted: datetime) -> datetime:
    """The phone's time, unless its clock is ahead, or it claims to be from before the trip."""
    reported = _time(data["timestamp"])
    if reported > occurred + MINUTE:
        return occurred
    return occurred if data.get("booking_id") and reported < accepted - MINUTE else reported


def _covers(had: list[Any], runner_id: str, recorded: datetime) -> bool:
    runner, begin, end = had
    return bool(
        runner == runner_id
        and begin - MINUTE <= recorded
        and (end is None or recorded <= end + MINUTE)
    )


def _time(text: str) -> datetime:
    """RFC 3339; of its up to nine fractional digits six are kept, rounded."""
    head, _, tail = text.removesuffix("Z").partition(".")
    microseconds = (int(f"{tail:0<9}"[:9]) + 500) // 1000
    return datetime.fromisoformat(f"{head}+00:00") + timedelta(microseconds=microseconds)
