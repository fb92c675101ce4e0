"""The oracle: what must be true when everything is over, by a ledger the service knows nothing of.

It reads tables, broker and log itself; compares with what was produced and tests/reference.py.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from faults.load import DEAD, EVENT, IGNORE, Load, Record
from faults.rows import Row, Tables
from tests.reference import Outcome, outcomes

MINUTE: Final = timedelta(minutes=1)
# Topic, partition, offset.
Place: TypeAlias = tuple[str, int, int]

KINDS: Final = {
    "booking.requested": "requested",
    "booking.accepted": "accepted",
    "booking.pet_picked_up": "picked_up",
    "booking.delivery_confirmed": "delivered",
    "booking.completed": "paid",
    "booking.cancelled": "cancelled",
}


class Expected:
    """What has to become of a load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.by_key = {record.key: record for record in load.records}
        self.trips: dict[str, Outcome] = outcomes(load.events)

    def may_be_refused(self, record: Record) -> bool:
        """Recorded after a delivery, which is final."""
        data = record.data
        trip = self.trips.get(data.get("booking_id", ""))
        return (
            record.type == "runner.location_update"
            and trip is not None
            and trip.status == "completed"
            and trip.completed_at is not None
            and recorded_at(data) > trip.completed_at + MINUTE
        )


class Found:
    """Where each event is now."""

    def __init__(self, tables: Tables, letters: Iterable[Any]) -> None:
        self.reports = {(w.booking_id, *report_of(w)) for w in tables.waypoints}
        self.runners = {report_of(w) for w in tables.waypoints}
        self.facts = set(tables.facts)
        self.parked = tables.parked
        self.letters = {source_of(letter) for letter in letters}

    def has(self, record: Record, prefix: str) -> bool:
        """Is the record where nothing can be lost any more?"""
        if record.fate == DEAD:
            assert record.offset is not None
            return (f"{prefix}.{record.topic}", record.partition, record.offset) in self.letters
        if record.fate == IGNORE:
            return True
        if record.type == "runner.location_update":
            return self._has_update(record.data)
        return fact_key(record) in self.facts

    def _has_update(self, data: Mapping[str, Any]) -> bool:
        booking_id, runner_id = data.get("booking_id"), data["runner_id"]
        reported = time_of(data["timestamp"])
        report = (runner_id, reported, data["longitude"], data["latitude"])
        if (runner_id, booking_id, reported) in self.parked:
            return True
        return (
            report in self.runners if booking_id is None else (booking_id, *report) in self.reports
        )


def report_of(waypoint: Row) -> tuple[str, datetime, float, float]:
    """What makes two reports of a booking the same waypoint: what the phone said."""
    return waypoint.runner_id, waypoint.reported_at, waypoint.longitude, waypoint.latitude


def time_of(text: str) -> datetime:
    """The loads write nine fractional digits, of which the last three are 0."""
    return datetime.fromisoformat(f"{text[:26]}+00:00")


def recorded_at(data: Mapping[str, Any]) -> datetime:
    """The phone's time, unless its clock is ahead. No phone of these loads is behind its trip."""
    reported, occurred = time_of(data["timestamp"]), time_of(data["occurred_at"])
    return occurred if reported > occurred + MINUTE else reported


def fact_key(record: Record) -> tuple[str, str, datetime, str | None]:
    """What makes two booking events the same fact."""
    data = record.data
    occurred = time_of(data["occurred_at"])
    return data["booking_id"], KINDS[record.type], occurred, data.get("runner_id")


def source_of(letter: Any) -> Place:
    """Where a dead letter's record was."""
    headers = dict(letter.headers)
    topic, partition, offset = (
        headers[f"dead-letter-{name}"].decode() for name in ("topic", "partition", "offset")
    )
    return topic, int(partition), int(offset)


def every_event_has_an_outcome(expected: Expected, found: Found, prefix: str) -> None:
    lost = [
        record
        for record in expected.load.records
        if not found.has(record, prefix) and not expected.may_be_refused(record)
    ]
    assert not lost, f"{len(lost)} events lost, among them {lost[:3]}"


def nothing_is_there_twice(tables: Tables) -> None:
    keys = Counter((w.booking_id, *report_of(w)) for w in tables.waypoints)
    keys_of_facts = Counter(tables.facts)
    twice = [key for counts in (keys, keys_of_facts) for key, n in counts.items() if n > 1]
    assert not twice, f"{len(twice)} keys stored twice, among them {twice[:3]}"


def nothing_is_made_up(expected: Expected, tables: Tables) -> None:
    events = [r for r in expected.load.records if r.fate == EVENT]
    updates = [r for r in events if r.type == "runner.location_update"]
    said = {(r.data["runner_id"], time_of(r.data["timestamp"])) for r in updates}
    facts = {fact_key(r) for r in events if r.type != "runner.location_update"}
    assert {(w.runner_id, w.reported_at) for w in tables.waypoints} <= said
    assert set(tables.facts) <= facts


def numbers_have_no_gap(tables: Tables) -> None:
    seqs = defaultdict(list)
    for waypoint in tables.waypoints:
        seqs[waypoint.booking_id].append(waypoint.seq)
    for booking_id, track in tables.tracks.items():
        assert seqs[booking_id] == list(range(1, track.head_seq + 1)), f"seq of {booking_id}"


def tracks_are_those_of_an_orderly_day(expected: Expected, tables: Tables) -> None:
    """As if every event had come once and in order."""
    assert tables.tracks.keys() == expected.trips.keys()
    routes = defaultdict(list)
    for w in (each for each in tables.waypoints if each.in_route):
        place = (w.recorded_at, w.runner_id, w.reported_at, w.longitude, w.latitude)
        routes[w.booking_id].append(place)
    for booking_id, trip in expected.trips.items():
        track, route = tables.tracks[booking_id], sorted(routes[booking_id])
        wrong = Counter(trip.route) - Counter(route), Counter(route) - Counter(trip.route)
        assert route == trip.route, f"route of {booking_id}: missing, extra = {wrong}"
        told = (track.status, track.phase, track.runner_id, track.completed_at)
        assert told == trip[:2] + trip[2:4], f"state of {booking_id}"
        assert (track.waypoint_count, track.distance_mm) == (len(route), trip.distance_mm)
        assert track.last == (route[-1] if route else None), f"head of {booking_id}"


def letters_are_whole(
    expected: Expected, source: Mapping[Place, Any], letters: Iterable[Any]
) -> None:
    """Exactly what was malformed, its bytes untouched, beside a reason."""
    dead = {p: r for p, r in source.items() if expected.by_key[r.key].fate == DEAD}
    kept = {source_of(letter): letter for letter in letters}
    assert kept.keys() == dead.keys(), f"letters: {len(kept)}, malformed: {len(dead)}"
    for place, record in dead.items():
        letter = kept[place]
        theirs = [h for h in letter.headers if not h[0].startswith("dead-letter-")]
        assert (letter.key, letter.value, theirs) == (record.key, record.value, record.headers)
        assert dict(letter.headers)["dead-letter-reason"]


def everything_sent_is_in_kafka(
    expected: Expected, source: Mapping[Place, Any], prefix: str
) -> None:
    """The ledger itself is right: what was acknowledged is where the broker said."""
    for record in expected.load.records:
        assert record.offset is not None
        place = (f"{prefix}.{record.topic}", record.partition, record.offset)
        assert source[place].key == record.key


def outgoing_events_are_in_order(
    tables: Tables, records: Iterable[Any], positions: bool = True
) -> None:
    """Started, every position in the order of seq, completed; repeats have the same id."""
    said: dict[str, list[tuple[str, str, dict[str, Any]]]] = defaultdict(list)
    for record in records:
        event = json.loads(record.value)
        said[event["data"]["booking_id"]].append((event["type"], event["id"], event["data"]))
    assert said.keys() == tables.tracks.keys()
    due = positions_due(tables)
    for booking_id, track in tables.tracks.items():
        events = said[booking_id]
        assert events[0][0] == "tracking.started", f"first event of {booking_id}"
        assert len({id_ for type_, id_, _ in events if type_ == "tracking.started"}) == 1
        if track.status == "completed":
            assert any(type_ == "tracking.completed" for type_, _, _ in events)
        if positions:
            _positions_in_order(due[booking_id], events)


def _positions_in_order(due: set[int], events: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    ids: dict[int, str] = {}
    for type_, id_, data in events:
        if type_ == "tracking.updated":
            seq = data["seq"]
            assert ids.setdefault(seq, id_) == id_
    assert list(ids) == sorted(ids), "out of order"
    assert due <= ids.keys(), f"not sent: {sorted(due - ids.keys())[:5]}"


def positions_sent(records: Iterable[Any]) -> set[tuple[str, int]]:
    """Booking and seq of every `tracking.updated`."""
    said = [json.loads(record.value) for record in records]
    sent = [each["data"] for each in said if each["type"] == "tracking.updated"]
    return {(data["booking_id"], data["seq"]) for data in sent}


def positions_due(tables: Tables) -> dict[str, set[int]]:
    """By booking, the seqs of the route, which have to be sent.

    One that has left is passed over at its turn; only a second acceptance brings it back.
    """
    accepted = Counter(booking_id for booking_id, kind, *_ in tables.facts if kind == "accepted")
    due: dict[str, set[int]] = defaultdict(set)
    for row in tables.waypoints:
        if row.in_route and accepted[row.booking_id] == 1:
            due[row.booking_id].add(row.seq)
    return due


def counters_add_up(expected: Expected, source: Mapping[Place, Any], text: str) -> None:
    """Every record that was read has one outcome in the metrics. One process, nothing re-read."""
    counted: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("tracking_events_total{"):
            labels, _, number = line.rpartition(" ")
            counted[labels.partition('outcome="')[2].partition('"')[0]] += round(float(number))
    fates = Counter(expected.by_key[record.key].fate for record in source.values())
    of_events = sum(counted[o] for o in ("applied", "duplicate", "parked", "refused"))
    told = {EVENT: of_events, DEAD: counted["dead"], IGNORE: counted["ignored"]}
    assert told == {fate: fates[fate] for fate in told}
    assert counted.total() == len(source)
