"""Shuffled, repeated and split at random, a stream of events adds up to what the reference says.

`pytest --hypothesis-profile=long --timeout=0 tests/test_any_order.py` takes a quarter of an hour; a
failure prints the seed and the `@reproduce_failure` line that repeat it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.databases import own_database
from tests.reference import Event, Outcome, outcomes
from tests.running import envelope
from tracking.domain import decoding, events
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.statements import transaction

# Ten minutes before a day and a month end; no partition of the year after is there.
START = datetime(2027, 1, 31, 23, 50, tzinfo=UTC)
DAY = 86_400
UPDATE = "runner.location_update"


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """Of a database without a server, whose drainer would take rows out of the outbox."""
    with own_database(environ) as engine:
        yield engine


class Fact(NamedTuple):
    """A booking event: which booking, when (in half minutes), by which runner."""

    booking: int
    kind: str
    at: int
    runner: int
    ahead: int = 0  # half minutes by which the producer's clock is wrong


class Report(NamedTuple):
    """A location update: whose, of which of his phones, for which booking, when (seconds)."""

    runner: int
    phone: int
    booking: int | None
    at: float
    ahead: int  # seconds by which the phone's clock is wrong
    has_fix: bool = True
    is_timed: bool = True  # by its event
    copied: float = 0  # seconds after which Kafka got it, this time


FACTS = st.builds(
    Fact,
    st.integers(0, 1),
    st.sampled_from(
        ["requested", "accepted", "accepted", "pet_picked_up", "delivery_confirmed", "cancelled",
         "completed"]
    ),
    st.integers(0, 40),
    st.integers(0, 1),
    st.sampled_from([0, 0, 0, 0, 0, 3, 10]),
)  # fmt: skip
MOMENTS = (
    st.integers(-3, 43).map(lambda half: half * 30.0)  # the edges of every minute of grace
    | st.integers(-90, 1_290).map(float)
    | st.floats(0, 1_200).map(lambda second: round(second, 9))
    | st.sampled_from([-400.0 * DAY, -DAY, -61.0, 1_300.0, 2.0 * DAY, 60.0 * DAY])
)
REPORTS = st.builds(
    Report,
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([0, 1, None]),
    MOMENTS,
    st.sampled_from([0, 0, 0, 0, 30, 59, 60, 61, 300, -3_600, -3_600, 400 * DAY]),
    st.sampled_from([True] * 9 + [False]),
    st.sampled_from([True] * 3 + [False]),
    st.just(0.0),
)


class World:
    """People and bookings of one example, new to the database."""

    def __init__(self) -> None:
        # The order of two runners decides between equal times: it must be the same in each run.
        self.runners = [UUID(int=number << 100 | uuid4().int >> 28) for number in (1, 2)]
        self.bookings = [UUID(int=number << 100 | uuid4().int >> 28) for number in (3, 4)]
        self.owner = uuid4()

    def events(
        self, facts: Iterable[Fact], reports: Iterable[Report], delay_s: float = 1.0
    ) -> list[Event]:
        """Each with the time at which Kafka got it."""
        told = [(*self._fact(f), at_second(30 * f.at, delay_s)) for f in facts]
        told += [(UPDATE, self._update(r), at_second(r.at, r.copied + delay_s)) for r in reports]
        return list({str(event): event for event in told}.values())

    def _fact(self, fact: Fact) -> Event:
        at = START + timedelta(seconds=30 * (fact.at + fact.ahead))
        data: dict[str, Any] = {
            "booking_id": str(self.bookings[fact.booking]),
            "booking_number": f"BK-{fact.booking}",
            "occurred_at": digits(at),
        }
        if fact.kind != "cancelled":
            data |= {"runner_id": str(self.runners[fact.runner]), "owner_id": str(self.owner)}
        if fact.kind == "requested":
            data |= {"pickup_lat": -6.2, "pickup_lng": 106.8}
            data |= {"dropoff_lat": -6.3, "dropoff_lng": 106.9}
        if fact.kind == "delivery_confirmed":
            # The runner's button, up to minutes before the platform heard of it.
            data["delivered_at"] = digits(at - timedelta(seconds=45 * ((fact.at + fact.ahead) % 7)))
        return f"booking.{fact.kind}", data

    def _update(self, report: Report) -> dict[str, Any]:
        at = START + timedelta(seconds=report.at)
        place = report.at % 1_000 + 7 * report.phone + 13 * report.runner
        fix = report.has_fix
        return {
            "runner_id": str(self.runners[report.runner]),
            "booking_id": None if report.booking is None else str(self.bookings[report.booking]),
            "latitude": -6.2 + place % 17 * 1e-4 if fix else 0,
            "longitude": 106.8 + place * 1e-4 if fix else 0.0,
            "speed_kmh": 36.5,
            "heading_degrees": -1,
            "timestamp": digits(at + timedelta(seconds=report.ahead)),
            "occurred_at": digits(at) if report.is_timed else None,
        }


def at_second(second: float, delay_s: float) -> datetime:
    return START + timedelta(seconds=second) + timedelta(seconds=delay_s)


def digits(time: datetime) -> str:
    """With nine fractional digits, of which the last three are rounded away."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}499Z"


def decoded(event: Event, later_s: float) -> events.Event:
    """The event as it comes from Kafka, or a copy of it that Kafka got so much later."""
    type_, data, kafka_time = event  # type: ignore[misc]
    value = json.dumps({**envelope(type_, data), "time": None}).encode()
    topic = f"{type_.partition('.')[0]}.events"
    found = decoding.decode(topic, value, [], kafka_time + timedelta(seconds=later_s)).event
    assert found is not None
    return found


def split(stream: Sequence[Event], choice: Random) -> Iterable[list[Event]]:
    start = 0
    while start < len(stream):
        size = choice.choice((1, 1, 2, 3, 5, 8, 13, 50))
        yield list(stream[start : start + size])
        start += size


def ingest(
    engine: sa.Engine, stream: Sequence[Event], choice: Random, later_s: float = 0
) -> Stored:
    """All of it, batch by batch, by one of two processes; what the batches changed, added up."""
    total, processes = Stored(), [TrackCache(), TrackCache()]
    for batch in split(stream, choice):
        events = [decoded(event, later_s) for event in batch]
        stored = store_batch(engine, events, (), choice.choice(processes))
        counted = stored.update_outcomes.total() + stored.fact_outcomes.total()
        assert counted == len(batch), "every event has exactly one outcome"
        total.bookings += stored.bookings
        total.update_outcomes += stored.update_outcomes
        total.fact_outcomes += stored.fact_outcomes
    return total


def dump(engine: sa.Engine, world: World) -> dict[str, list[str]]:
    """Every row that this example made."""
    of_bookings = "t.booking_id = ANY(%(bookings)s)"
    where = {
        "tracks": of_bookings,
        "booking_facts": of_bookings,
        "assignments": of_bookings,
        "outbox": of_bookings,
        "waypoints": f"track_id IN (SELECT id FROM tracks t WHERE {of_bookings})",
        "parked_updates": "runner_id = ANY(%(runners)s)",
    }
    names = {"bookings": world.bookings, "runners": world.runners}
    rows = {}
    with transaction(engine) as cursor:
        for table, condition in where.items():
            cursor.execute(f"SELECT t::text FROM {table} t WHERE {condition} ORDER BY 1", names)
            rows[table] = [row for (row,) in cursor]
    return rows


def reported(engine: sa.Engine, world: World) -> set[tuple[UUID, datetime]]:
    """Runner and reported time of every waypoint of this example."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT runner_id, reported_at FROM waypoints WHERE track_id IN"
            " (SELECT id FROM tracks WHERE booking_id = ANY(%s))",
            (world.bookings,),
        )
        return {(runner_id, reported_at) for runner_id, reported_at in cursor}


def told_by(event: Event) -> tuple[UUID, datetime]:
    update = decoded(event, 0)
    assert isinstance(update, events.LocationUpdate)
    return update.runner_id, update.reported_at


def stored_outcome(engine: sa.Engine, booking_id: str) -> tuple[Outcome, tuple[Any, ...]] | None:
    """What the tables say; beside it waypoint count, last position and marker, from the head."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT status, phase, runner_id::text, completed_at, distance_mm, left_out_mm,"
            " waypoint_count, last_recorded_at, ST_X(last_position), ST_Y(last_position),"
            " marker_recorded_at, ST_X(marker_position), ST_Y(marker_position), id, head_seq"
            " FROM tracks WHERE booking_id = %s",
            (booking_id,),
        )
        row = cursor.fetchone()
        if row is None:
            return None
        *state, distance, left_out, count = row[:7]
        *places, track_id, head_seq = row[7:]
        cursor.execute(
            "SELECT recorded_at, runner_id::text, reported_at, ST_X(position), ST_Y(position), seq,"
            " in_route, verdict FROM waypoints WHERE track_id = %s"
            " ORDER BY recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position)",
            (track_id,),
        )
        rows = cursor.fetchall()
    assert sorted(r[5] for r in rows) == list(range(1, head_seq + 1)), "seq has no gap"
    route = [tuple(r[:5]) for r in rows if r[6]]
    verdicts = [r[7] for r in rows if r[6]]
    outcome = Outcome._make([*state, route, distance, distance + left_out, verdicts])
    return outcome, (count, *places)


def head_of(expected: Outcome) -> tuple[Any, ...]:
    if not expected.route:
        return 0, *[None] * 6
    recorded_at, _, _, *place = expected.route[-1]
    marker: Sequence[Any] = [None] * 3
    if expected.verdicts[-1]:
        kept = max(w for w, v in zip(expected.route, expected.verdicts, strict=True) if not v)
        marker = kept[0], *kept[3:]
    return len(expected.route), recorded_at, *place, *marker


def assert_the_marker_never_goes_back(stored: Stored) -> None:
    shown = defaultdict(list)
    for waypoint in sorted(stored.waypoints, key=lambda w: w.seq):
        if not waypoint.late:
            shown[waypoint.track_id].append(waypoint.recorded_at)
    for times in shown.values():
        assert times == sorted(times)


@settings(max_examples=max(300, settings.default.max_examples if settings.default else 0))
@given(
    st.lists(FACTS, max_size=8),
    st.lists(REPORTS, max_size=24),
    st.integers(0, 10),
    st.sampled_from([1.0, 1.0, -60.5]),  # the second time a clock is corrected differently
    st.integers(0, 1 << 32),
)
def test_any_order_any_repetition_and_any_cut_give_what_the_reference_says(
    engine: sa.Engine, facts: list[Fact], reports: list[Report], at: int, delay_s: float, seed: int
) -> None:
    world, choice = World(), Random(seed)
    told = world.events([Fact(0, "accepted", at, 0), *facts], reports, delay_s)
    stream = told + choice.choices(told, k=len(told) // 2)
    choice.shuffle(stream)
    stored = ingest(engine, stream, choice)
    assert_as_expected(engine, world, told)
    assert_the_marker_never_goes_back(stored)

    before = dump(engine, world)
    assert len(before["waypoints"]) == len(stored.waypoints)
    assert len(before["booking_facts"]) == sum(
        n for (_, outcome), n in stored.fact_outcomes.items() if outcome == "applied"
    )
    choice.shuffle(stream)
    again = ingest(engine, stream, choice)
    assert dump(engine, world) == before
    assert (again.waypoints, again.changes) == ([], [])
    assert set(again.update_outcomes) <= {"duplicate", "refused"}
    assert Counter(o for _, o in again.fact_outcomes).keys() <= {"duplicate"}

    # Produced again two hours later: what has a time of its own is what it was.
    timed = [event for event in stream if event[1]["occurred_at"]]
    if delay_s < 0:  # a report that Kafka's slow clock put outside its trip left no trace
        kept = reported(engine, world)
        timed = [event for event in timed if event[0] != UPDATE or told_by(event) in kept]
    later = ingest(engine, timed, choice, later_s=7_200.0)
    assert (later.waypoints, later.changes) == ([], [])
    assert {**dump(engine, world), "parked_updates": []} == {**before, "parked_updates": []}


@settings(max_examples=max(60, settings.default.max_examples if settings.default else 0))
@given(
    st.lists(REPORTS.map(lambda r: r._replace(is_timed=False)), min_size=1, max_size=12),
    st.lists(st.sampled_from([-40.0, 0.0, 0.5, 40.0, 90.0, 400.0]), min_size=1, max_size=3),
    st.sampled_from([(), (Fact(0, "delivery_confirmed", 30, 0),)]),
    st.integers(0, 1 << 32),
)
def test_copies_that_kafka_got_at_other_times_are_one_waypoint_at_the_earliest(
    engine: sa.Engine, reports: list[Report], delays: list[float], end: tuple[Fact, ...], seed: int
) -> None:
    world, choice = World(), Random(seed)
    copies = [r._replace(copied=delay) for r in reports for delay in delays]
    told = world.events([Fact(0, "accepted", 2, 0), *end], copies)
    stream = told + choice.choices(told, k=len(told) // 2)
    choice.shuffle(stream)
    stored = ingest(engine, stream, choice)
    assert_as_expected(engine, world, told)
    assert_the_marker_never_goes_back(stored)


def assert_as_expected(engine: sa.Engine, world: World, told: Sequence[Event]) -> None:
    expected = outcomes(told)
    for booking_id in map(str, world.bookings):
        found = stored_outcome(engine, booking_id)
        if booking_id not in expected:
            assert found is None
            continue
        assert found == (expected[booking_id], head_of(expected[booking_id]))
