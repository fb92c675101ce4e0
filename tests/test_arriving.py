"""tracking.store.maintenance.arriving: told once, corrected when it was none, in any order."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.databases import own_database
from tests.running import Trip
from tests.simulated import Spot, at
from tests.test_store_ingest import delivered, track_of, update
from tracking.domain.changes import BookingChanges
from tracking.domain.eta import History, Sample
from tracking.domain.events import BookingEvent, Event
from tracking.domain.legs import Leg
from tracking.domain.trip_eta import Samples
from tracking.domain.verdicts import STANDARD
from tracking.metrics import Metrics
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import arriving
from tracking.store.maintenance.arriving import note_arrivals, settle_arrivals
from tracking.store.maintenance.looking import Looks
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.read.live import track_versions
from tracking.store.read.told_arrivals import arrivals_of
from tracking.store.statements import transaction
from workers import arrival_watch
from workers.arrival_watch import ArrivalWatch

PICKUP, DROPOFF = Spot(0, 0), Spot(3_000, 0)
# Places of the trip by second: to the pickup, a wait of 150 s, to the dropoff, and a wait there.
WAIT_S, LEAVE_S, THERE_S, END_S = 200, 350, 750, 900


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """A database whose trips nobody else looks at."""
    with own_database(environ) as engine:
        yield engine


def spot_at(second: float) -> Spot:
    if second < WAIT_S:
        return Spot(-2_000 + 10 * second, 0)
    if second < LEAVE_S:
        return PICKUP
    return Spot(min(3_000, (second - LEAVE_S) * 7.5), 0)


def place(spot: Spot) -> tuple[float, float]:
    return at(0, 0, spot)[2:]


def moved_to(trip: Trip, second: float, spot: Spot | None = None) -> Event:
    longitude, latitude = place(spot_at(second) if spot is None else spot)
    return update(trip, second, longitude=longitude, latitude=latitude)


def accepted(trip: Trip) -> list[Event]:
    return [
        BookingEvent(trip.booking_id, "requested", trip.at(-5), pickup=place(PICKUP),
                     dropoff=place(DROPOFF), owner_id=trip.owner_id),
        BookingEvent(trip.booking_id, "accepted", trip.at(0), trip.runner_id, trip.owner_id),
    ]  # fmt: skip


def picked_up(trip: Trip, second: float) -> Event:
    return BookingEvent(trip.booking_id, "picked_up", trip.at(second), trip.runner_id)


def a_trip(minutes_ago: float) -> Trip:
    return Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minutes_ago))


def legs(engine: sa.Engine, trip: Trip) -> dict[str, Leg]:
    return {leg.end: leg for leg in arrivals_of(engine, track_of(engine, trip).id)}


def events(engine: sa.Engine, trip: Trip) -> list[dict[str, Any]]:
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT data || jsonb_build_object('id', event_id, 'type', type) FROM outbox"
            " WHERE booking_id = %s AND data ? 'point' ORDER BY id",
            (trip.booking_id,),
        )
        return [data for (data,) in cursor]


def kinds(engine: sa.Engine, trip: Trip) -> list[tuple[str, str]]:
    return [(each["type"].removeprefix("tracking."), each["point"])
            for each in events(engine, trip)]  # fmt: skip


def settle(engine: sa.Engine, trip: Trip) -> None:
    assert update_metadata(engine, track_of(engine, trip).id) is not None


def drive(
    engine: sa.Engine, trip: Trip, looks: Looks, first: int, last: int
) -> list[BookingChanges]:
    """A waypoint and a round of maintenance every five seconds."""
    told = []
    for second in range(first, last, 5):
        store_batch(engine, [moved_to(trip, second)])
        told += [c for c in note_arrivals(engine, looks) if c.booking_id == trip.booking_id]
    return told


def test_who_comes_approaches_and_arrives_and_is_told_once(engine: sa.Engine) -> None:
    trip, looks = a_trip(10), Looks()
    store_batch(engine, accepted(trip))
    told = drive(engine, trip, looks, 0, LEAVE_S)
    assert kinds(engine, trip) == [("approaching", "pickup"), ("arrived", "pickup")]
    leg = legs(engine, trip)["pickup"]
    assert (leg.state, leg.arrived_at) == ("arrived", trip.at(WAIT_S - 5))
    approaching, arrived = events(engine, trip)
    assert approaching["recorded_at"] == approaching["occurred_at"]
    assert arrived["owner_id"] == str(trip.owner_id)
    assert (arrived["evidence_seq"], arrived["late"], arrived["replaces"]) == (
        leg.evidence_seq, False, None,
    )  # fmt: skip
    # What viewers are told: the state at each change, and versions without a gap.
    assert [change.legs[-1].state for change in told if change.legs] == ["approaching", "arrived"]
    moves = [change.move for change in told if change.move]
    assert all(move.after == move.before + 1 for move in moves)
    (version,) = track_versions(engine, [trip.booking_id]).values()
    assert moves[-1].after < version  # later waypoints moved it on: ingest has seen ours


def test_a_long_wait_remains_an_arrival_and_leaving_ends_it(engine: sa.Engine) -> None:
    trip, looks = a_trip(60), Looks()
    store_batch(engine, accepted(trip))
    for second in range(0, WAIT_S, 5):
        store_batch(engine, [moved_to(trip, second)])
    for second in range(WAIT_S, WAIT_S + 1_500, 10):
        store_batch(engine, [moved_to(trip, second, PICKUP)])
        if second % 100 == 0:
            note_arrivals(engine, looks)
    arrived = legs(engine, trip)["pickup"]
    assert arrived.arrived_at == trip.at(WAIT_S - 5)
    away = [moved_to(trip, 1_800 + n, Spot(-30.0 * n, 0)) for n in (5, 10, 15)]
    store_batch(engine, away)
    note_arrivals(engine, looks)
    leg = legs(engine, trip)["pickup"]
    assert (leg.arrived_at, leg.left_at) == (None, trip.at(1_805))
    left = events(engine, trip)[-1]
    assert (left["type"], left["withdrawn"]) == ("tracking.left", False)
    assert left["replaces"] == events(engine, trip)[-2]["id"]


def test_the_event_of_the_pickup_decides_and_the_dropoff_follows(engine: sa.Engine) -> None:
    trip, looks = a_trip(20), Looks()
    store_batch(engine, accepted(trip))
    drive(engine, trip, looks, 0, LEAVE_S)
    store_batch(engine, [picked_up(trip, LEAVE_S)])
    drive(engine, trip, looks, LEAVE_S, END_S)
    assert legs(engine, trip)["pickup"].state == "arrived"
    assert legs(engine, trip)["dropoff"].arrived_at == trip.at(THERE_S - 5)
    store_batch(engine, [delivered(trip, END_S)])
    before = events(engine, trip)
    settle(engine, trip)
    assert events(engine, trip) == before  # nothing that was not known


@pytest.mark.parametrize(("days", "told"), [(6, 2), (8, 0)])
def test_of_a_trip_of_last_week_nothing_is_told_any_more(
    engine: sa.Engine, days: int, told: int
) -> None:
    """It ended before there were arrivals, and its verdicts are judged anew."""
    trip = a_trip(days * 24 * 60)
    drive = [moved_to(trip, second) for second in range(0, END_S, 5)]
    store_batch(engine, [*accepted(trip), *drive, picked_up(trip, LEAVE_S), delivered(trip, END_S)])
    before = samples(engine)
    settle(engine, trip)
    assert (len(events(engine, trip)), len(legs(engine, trip))) == (told, told)
    assert (samples(engine) > before) == (told > 0)


def samples(engine: sa.Engine) -> int:
    with transaction(engine) as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM eta_samples")
        return int((cursor.fetchone() or (0,))[0])


def test_an_arrival_that_the_phase_event_alone_shows_has_no_evidence(engine: sa.Engine) -> None:
    trip, looks = a_trip(10), Looks()
    store_batch(engine, accepted(trip))
    drive(engine, trip, looks, 0, WAIT_S + 10)
    assert legs(engine, trip)["pickup"].state == "approaching"
    store_batch(engine, [picked_up(trip, WAIT_S + 10)])
    note_arrivals(engine, looks)
    leg = legs(engine, trip)["pickup"]
    assert (leg.arrived_at, leg.evidence_seq) == (trip.at(WAIT_S - 5), None)
    assert events(engine, trip)[-1]["evidence_seq"] is None


def test_late_waypoints_withdraw_what_was_none(engine: sa.Engine) -> None:
    """The buffer shows that it drove on: what looked like a wait was a gap."""
    trip, looks = a_trip(10), Looks()
    store_batch(engine, accepted(trip))
    drive(engine, trip, looks, 0, WAIT_S)
    waits = [moved_to(trip, second, PICKUP) for second in (200, 250, 300, 305)]
    store_batch(engine, waits)
    note_arrivals(engine, looks)
    arrived = events(engine, trip)[-1]
    assert arrived["type"] == "tracking.arrived"
    gone = [moved_to(trip, second, Spot(0, 300)) for second in range(202, 245, 4)]
    store_batch(engine, [*gone, *[moved_to(trip, s, Spot(0, 300)) for s in range(252, 300, 4)]])
    note_arrivals(engine, looks)
    withdrawn = events(engine, trip)[-1]
    assert (withdrawn["type"], withdrawn["withdrawn"]) == ("tracking.left", True)
    assert withdrawn["replaces"] == arrived["id"]
    assert legs(engine, trip)["pickup"].arrived_at is None


def test_a_jump_to_the_door_is_no_arrival(engine: sa.Engine) -> None:
    trip, looks = a_trip(10), Looks()
    store_batch(engine, accepted(trip))
    afar = Spot(-9_000, 0)
    store_batch(engine, [moved_to(trip, second, afar) for second in range(0, 200, 5)])
    store_batch(engine, [moved_to(trip, second, PICKUP) for second in range(200, 203)])
    note_arrivals(engine, looks)
    assert kinds(engine, trip) == []


@pytest.mark.parametrize(("second", "metres"), [(125, 750), (20, 1_800)])
def test_an_eta_of_minutes_is_an_approach_too(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, second: int, metres: float
) -> None:
    """However far away the runners of late were three minutes before they arrived."""
    trip = a_trip(10)
    places = [moved_to(trip, s) for s in range(0, second + 5, 5)]
    store_batch(engine, [*accepted(trip), *places])
    for pace, found in ((0.5, []), (0.09, [("approaching", "pickup")])):  # seconds a metre
        history = History()
        for _ in range(40):
            history.add(Sample("to_pickup", metres, metres * pace))
        samples = Samples(history=history)
        monkeypatch.setattr(arrival_watch, "read_samples", lambda *_, known=samples: known)
        ArrivalWatch(engine, Metrics(), STANDARD).look()
        assert kinds(engine, trip) == found
    assert legs(engine, trip)["pickup"].approaching_at == trip.at(second)
    drive(engine, trip, Looks(), second + 5, LEAVE_S)
    assert kinds(engine, trip) == [("approaching", "pickup"), ("arrived", "pickup")]


def test_one_process_looks_at_a_time(engine: sa.Engine) -> None:
    trip = a_trip(10)
    store_batch(engine, [*accepted(trip), *[moved_to(trip, s) for s in range(0, LEAVE_S, 5)]])
    with transaction(engine) as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (arriving.ARRIVALS_LOCK,))
        cursor.fetchall()
        assert note_arrivals(engine, Looks()) == []
    assert kinds(engine, trip) == []
    note_arrivals(engine, Looks())
    note_arrivals(engine, Looks())  # another process: it knows from the table what was told
    assert kinds(engine, trip) == [("arrived", "pickup")]


def test_what_changed_meanwhile_is_left_for_the_next_round(engine: sa.Engine) -> None:
    trip = a_trip(10)
    store_batch(engine, [*accepted(trip), *[moved_to(trip, s) for s in range(0, LEAVE_S, 5)]])
    store_batch(engine, [delivered(trip, LEAVE_S)])
    track = track_of(engine, trip)
    assert settle_arrivals(engine, track.id, track.version - 1) is None
    assert legs(engine, trip) == {}
    found = settle_arrivals(engine, track.id, track.version)
    assert found is not None
    assert found.version == track_of(engine, trip).version == track.version + 1


def known(engine: sa.Engine, trip: Trip) -> list[tuple[object, ...]]:
    """The last word, apart from numbers and times of storing."""
    return [
        (leg.end, leg.state, leg.arrived_at and leg.arrived_at - trip.start,
         leg.approaching_at and leg.approaching_at - trip.start, leg.left_at,
         leg.evidence_seq is None)
        for leg in arrivals_of(engine, track_of(engine, trip).id)
    ]  # fmt: skip


def last_heard(engine: sa.Engine, trip: Trip) -> dict[str, object]:
    """What somebody knows who heard all events."""
    words: dict[str, object] = {}
    standing: dict[str, str] = {}
    for event in events(engine, trip):
        point = event["point"]
        if event["type"] == "tracking.approaching":
            continue
        assert event["replaces"] == standing.get(point)  # names what it replaces
        if event["type"] == "tracking.arrived":
            standing[point] = event["id"]
            at = datetime.fromisoformat(event["arrived_at"])
            words[point] = (at - trip.start).total_seconds()
        else:
            del standing[point]
            words[point] = None
    return words


@pytest.mark.parametrize("seed", range(6))
def test_any_order_and_any_cut_end_with_the_same_word(engine: sa.Engine, seed: int) -> None:
    choice = random.Random(seed)
    jump = (LEAVE_S + 50, Spot(9_000, 0))
    trips = a_trip(30), a_trip(30)
    for trip, is_mixed in zip(trips, (False, True), strict=True):
        listed: list[Event] = [
            *accepted(trip),
            *[moved_to(trip, second) for second in range(0, END_S, 5)],
            moved_to(trip, *jump),
            picked_up(trip, LEAVE_S),
            delivered(trip, END_S),
        ]
        looks = Looks()
        for batch in _cut(choice, listed) if is_mixed else [listed]:
            store_batch(engine, batch)
            if choice.random() < 0.7:
                note_arrivals(engine, Looks() if choice.random() < 0.2 else looks)
        if is_mixed:
            settle(engine, trip)
            store_batch(engine, [moved_to(trip, END_S + 5)])  # late: settled again
        settle(engine, trip)
    assert known(engine, trips[0]) == known(engine, trips[1])
    heard = [last_heard(engine, trip) for trip in trips]
    assert heard[0] == heard[1] == {"pickup": WAIT_S - 5, "dropoff": THERE_S - 5}


def _cut(choice: random.Random, listed: Sequence[Event]) -> list[list[Event]]:
    """Neighbours mostly stay together: buffers come late, but in order."""
    size = choice.choice([3, 20, 60])
    batches = [list(listed[n : n + size]) for n in range(0, len(listed), size)]
    choice.shuffle(batches)
    return batches


def with_ends(trip: Trip, pickup: Spot | None, dropoff: Spot | None) -> list[Event]:
    ends = {"pickup": pickup and place(pickup), "dropoff": dropoff and place(dropoff)}
    requested, acceptance = accepted(trip)
    assert isinstance(requested, BookingEvent)
    return [replace(requested, **ends), acceptance]


def stays(trip: Trip, spot: Spot, first: int, last: int) -> list[Event]:
    return [moved_to(trip, second, spot) for second in range(first, last, 5)]


def test_of_an_end_that_no_event_places_nothing_is_said(engine: sa.Engine) -> None:
    trip, looks = a_trip(20), Looks()
    store_batch(engine, with_ends(trip, None, DROPOFF))
    drive(engine, trip, looks, 0, LEAVE_S)
    assert kinds(engine, trip) == []
    store_batch(engine, [picked_up(trip, LEAVE_S)])
    drive(engine, trip, looks, LEAVE_S, END_S)
    assert list(legs(engine, trip)) == ["dropoff"]
    assert kinds(engine, trip) == [("approaching", "dropoff"), ("arrived", "dropoff")]


@pytest.mark.parametrize(("metres", "is_seen"), [(150, True), (80, False)])
def test_a_dropoff_beside_the_pickup_is_seen_if_the_runner_was_ever_away_from_it(
    engine: sa.Engine, metres: int, is_seen: bool
) -> None:
    """Nearer than AWAY_M, only the event tells the one place from the other."""
    trip, looks, there = a_trip(20), Looks(), Spot(metres, 0)
    store_batch(engine, with_ends(trip, PICKUP, there))
    drive(engine, trip, looks, 0, LEAVE_S - 30)
    store_batch(engine, [picked_up(trip, LEAVE_S - 35)])
    store_batch(engine, [*stays(trip, PICKUP, LEAVE_S - 30, LEAVE_S),
                         *stays(trip, there, LEAVE_S, LEAVE_S + 100)])  # fmt: skip
    note_arrivals(engine, looks)
    found = legs(engine, trip)
    assert found["pickup"].arrived_at == trip.at(WAIT_S - 5)
    assert found["dropoff"].arrived_at == (trip.at(LEAVE_S) if is_seen else None)
    store_batch(engine, [delivered(trip, LEAVE_S + 100)])
    settle(engine, trip)
    assert legs(engine, trip)["dropoff"].arrived_at == found["dropoff"].arrived_at


def test_who_accepts_at_the_pickup_has_not_come_there(engine: sa.Engine) -> None:
    trip, looks = a_trip(20), Looks()
    store_batch(engine, [*accepted(trip), *stays(trip, PICKUP, 0, LEAVE_S)])
    note_arrivals(engine, looks)
    store_batch(engine, [picked_up(trip, LEAVE_S)])
    drive(engine, trip, looks, LEAVE_S, END_S)
    assert ("arrived", "pickup") not in kinds(engine, trip)
    assert ("arrived", "dropoff") in kinds(engine, trip)


def test_of_two_runners_the_second_one_arrives(engine: sa.Engine) -> None:
    """The first one was there, and gave the booking back: that was his way, not this one's."""
    trip, looks = a_trip(30), Looks()
    store_batch(engine, accepted(trip))
    drive(engine, trip, looks, 0, LEAVE_S)
    first, trip.runner_id = trip.runner_id, uuid4()
    store_batch(engine, [BookingEvent(trip.booking_id, "accepted", trip.at(LEAVE_S),
                                      trip.runner_id, trip.owner_id)])  # fmt: skip
    drive(engine, trip, looks, LEAVE_S + 5, LEAVE_S + 10)
    note_arrivals(engine, looks)
    withdrawn = events(engine, trip)[-1]
    assert (withdrawn["type"], withdrawn["withdrawn"]) == ("tracking.left", True)
    way = [moved_to(trip, LEAVE_S + 10 + n, Spot(-1_000 + 10 * n, 0)) for n in range(0, 100, 5)]
    store_batch(engine, [*way, *stays(trip, PICKUP, LEAVE_S + 110, LEAVE_S + 200)])
    note_arrivals(engine, looks)
    last = events(engine, trip)[-1]
    assert (last["type"], last["runner_id"]) == ("tracking.arrived", str(trip.runner_id))
    assert last["runner_id"] != str(first)
    assert legs(engine, trip)["pickup"].arrived_at == trip.at(LEAVE_S + 105)
