"""tracking.store.maintenance.looking: neither a bad track nor a long one holds up the others."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.databases import own_database
from tests.running import Trip
from tests.simulated import Spot
from tests.test_arriving import LEAVE_S, PICKUP, a_trip, accepted, kinds, moved_to, place
from tests.test_store_ingest import track_of
from tracking.domain.arrivals import Way
from tracking.domain.hops import Recorded
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import arriving, looking
from tracking.store.maintenance.arriving import note_arrivals
from tracking.store.maintenance.looking import Looks
from tracking.store.statements import transaction

ARRIVED = [("arrived", "pickup")]
Failures = list[tuple[object, str, bool]]


@pytest.fixture(scope="module")
def database(environ: dict[str, str]) -> Iterator[sa.Engine]:
    with own_database(environ) as engine:
        yield engine


@pytest.fixture
def engine(database: sa.Engine) -> sa.Engine:
    """Without the trips of other tests."""
    with transaction(database) as cursor:
        cursor.execute("TRUNCATE tracks, outbox CASCADE")
    return database


def waiting(engine: sa.Engine, north_m: float = 0.0) -> Trip:
    """Its runner came to the pickup, and waits so far north of it."""
    trip = a_trip(10)
    there = [moved_to(trip, second, Spot(0, north_m)) for second in range(200, LEAVE_S, 5)]
    store_batch(engine, [*accepted(trip), *[moved_to(trip, s) for s in range(0, 200, 5)], *there])
    return trip


def fails_at(north_m: float) -> looking.IsSoon:
    """A bug that only the trip has whose runner stands there."""
    latitude = place(Spot(0, north_m))[1]

    def is_soon(_: Way, waypoint: Recorded) -> bool:
        if waypoint.latitude == pytest.approx(latitude, abs=1e-9):
            raise ZeroDivisionError("of this trip")
        return False

    return is_soon


def test_a_track_that_cannot_be_looked_at_is_postponed_and_the_others_are_told(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "COMMIT", timedelta())
    trips = [waiting(engine, north_m) for north_m in (0, 10, 20)]
    looks, failures = Looks(), Failures()

    def note(is_soon: looking.IsSoon | None = None) -> None:
        note_arrivals(
            engine, looks, is_soon=is_soon,
            failed=lambda id_, error, is_first: failures.append((id_, str(error), is_first)),
        )  # fmt: skip

    note(fails_at(10))
    bad = track_of(engine, trips[1]).id
    assert [kinds(engine, trip) for trip in trips] == [ARRIVED, [], ARRIVED]
    assert failures == [(bad, "of this trip", True)]
    note(fails_at(10))
    assert len(failures) == 1  # it waits
    monkeypatch.setattr(looking, "POSTPONED_S", 0.0)
    looks.postpone(bad)
    note(fails_at(10))
    assert failures[1:] == [(bad, "of this trip", False)]
    note()  # mended; nothing has come of it meanwhile
    assert kinds(engine, trips[1]) == ARRIVED
    assert not looks.has_failed


def test_a_track_that_failed_and_is_over_is_forgotten(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "POSTPONED_S", 0.0)
    trip, looks = waiting(engine), Looks()
    note_arrivals(engine, looks, is_soon=fails_at(0))
    assert looks.has_failed
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM arrivals; DELETE FROM tracks WHERE booking_id = %s",
                       (trip.booking_id,))  # fmt: skip
    note_arrivals(engine, looks)
    assert not looks.has_failed


def test_a_track_without_an_assignment_is_passed_over(engine: sa.Engine) -> None:
    trips = [waiting(engine), waiting(engine)]
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM assignments WHERE booking_id = %s", (trips[0].booking_id,))
    failures = Failures()
    note_arrivals(engine, Looks(), failed=lambda *_: failures.append(("", "", True)))
    assert [kinds(engine, trip) for trip in trips] == [[], ARRIVED]
    assert failures == []


def test_a_longer_route_than_has_a_summary_is_not_read(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = waiting(engine)
    monkeypatch.setattr(arriving, "MOST_WAYPOINTS", LEAVE_S // 5 - 1)
    note_arrivals(engine, Looks())
    assert kinds(engine, trip) == []
    monkeypatch.setattr(arriving, "MOST_WAYPOINTS", LEAVE_S // 5)
    note_arrivals(engine, Looks())
    assert kinds(engine, trip) == ARRIVED


def test_a_round_reads_as_much_as_one_route_may_have_and_leaves_the_rest_for_the_next(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "MOST_WAYPOINTS", LEAVE_S // 5)
    trips, looks = [waiting(engine) for _ in range(5)], Looks()
    told = []
    for _ in range(3):
        note_arrivals(engine, looks)
        told.append([kinds(engine, trip) == ARRIVED for trip in trips].count(True))
    assert told == [2, 4, 5]
    late = moved_to(trips[0], 3, PICKUP)  # the whole way again, beside the others
    store_batch(engine, [late])
    note_arrivals(engine, looks)
    assert looks.of(track_of(engine, trips[0]).id) is not None
