"""What must come out, whatever happened on the way: a model that shares no code with the service.

It reads events as their producers wrote them, (type, data), once and in any order, and knows of no
database, batch or clock: only the rules of `docs/architecture.md`. Times are aware datetimes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from pyproj import Geod

Event = tuple[str, Mapping[str, Any]]
# Recorded, runner, reported, longitude, latitude: the first three are the order of the route.
Waypoint = tuple[datetime, str, datetime, float, float]

MINUTE = timedelta(seconds=60)
RANK = ("booking.accepted", "booking.pet_picked_up", "booking.cancelled")
EARTH = Geod(ellps="WGS84")


class Outcome(NamedTuple):
    """A trip and its route."""

    status: str
    phase: str
    runner_id: str
    completed_at: datetime | None
    route: list[Waypoint]
    distance_mm: int


def outcomes(events: Iterable[Event]) -> dict[str, Outcome]:
    """By booking id, for every booking that was accepted."""
    facts, updates = defaultdict(list), []
    for type_, data in events:
        if type_ == "runner.location_update":
            updates.append(data)
        elif type_.startswith("booking."):
            facts[data["booking_id"]].append((type_, data))
    trips = {booking_id: _trip(known) for booking_id, known in facts.items()}
    return {b: _outcome(b, *trip, updates) for b, trip in trips.items() if trip is not None}


def _trip(facts: list[Event]) -> tuple[str, str, datetime | None, list[list[Any]]] | None:
    """Status, phase, end, and who had the booking from when to when."""
    ordered = sorted(facts, key=_order)
    accepted = [_at(d) for t, d in ordered if t == "booking.accepted"]
    delivery = next((d for t, d in ordered if t == "booking.delivery_confirmed"), None)
    if not accepted:
        return None
    status, phase, completed, had = "", "", None, list[list[Any]]()
    for type_, data in ordered:
        at = _at(data)
        if delivery is not None and at > _at(delivery) and (had or type_ != "booking.accepted"):
            continue  # a delivery is final, but it must have had an acceptance
        if type_ == "booking.accepted":
            _close(had, at)
            had.append([data["runner_id"], at, None])
            status, phase, completed = "active", "to_pickup", None
        elif type_ == "booking.pet_picked_up" and status == "active":
            phase = "to_dropoff"
        elif type_ == "booking.cancelled" and had:
            _close(had, at)
            status, phase, completed = "cancelled", "done", at
    if delivery is not None:
        told = _time(delivery.get("delivered_at", delivery["occurred_at"]))
        end = told if accepted[0] <= told <= _at(delivery) else _at(delivery)
        _close(had, end)
        status, phase, completed = "completed", "done", end
    return status, phase, completed, had


def _order(fact: Event) -> tuple[datetime, int, str]:
    """Of facts of one instant: acceptance, pick-up, cancellation; then by runner."""
    type_, data = fact
    return _at(data), RANK.index(type_) if type_ in RANK else len(RANK), str(data.get("runner_id"))


def _close(had: list[list[Any]], at: datetime) -> None:
    if had and had[-1][2] is None:
        had[-1][2] = max(at, had[-1][1])


def _outcome(
    booking_id: str, status: str, phase: str, completed: datetime | None,
    had: list[list[Any]], updates: list[Mapping[str, Any]],
) -> Outcome:  # fmt: skip
    found: dict[tuple[str, datetime], Waypoint] = {}
    for data in updates:
        if data.get("booking_id") in (None, booking_id):
            reported, occurred = _time(data["timestamp"]), _at(data)
            recorded = occurred if reported > occurred + MINUTE else reported
            for runner_id, begin, end in had:
                if runner_id == data["runner_id"] and begin - MINUTE <= recorded and (
                    end is None or recorded <= end + MINUTE
                ):  # fmt: skip
                    place = (float(data["longitude"]), float(data["latitude"]))
                    found[runner_id, reported] = (recorded, runner_id, reported, *place)
    route = sorted(found.values())
    legs = [EARTH.inv(*a[3:], *b[3:])[2] for a, b in pairwise(route)]
    millimetres = sum(round(metres * 1000) for metres in legs)
    return Outcome(status, phase, had[-1][0], completed, route, millimetres)


def _at(data: Mapping[str, Any]) -> datetime:
    return _time(data["occurred_at"])


def _time(text: str) -> datetime:
    """RFC 3339; of its up to nine fractional digits six are kept, rounded."""
    head, _, tail = text.removesuffix("Z").partition(".")
    microseconds = (int(f"{tail:0<9}"[:9]) + 500) // 1000
    return datetime.fromisoformat(f"{head}+00:00") + timedelta(microseconds=microseconds)
