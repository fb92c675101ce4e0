"""tracking.store.erasing.runners, and what is told, settled and measured of his trips behind it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from tests.programs import run_program
from tests.running import Trip, fresh_database, wait_until
from tests.test_arriving import (
    END_S,
    LEAVE_S,
    WAIT_S,
    a_trip,
    accepted,
    events,
    legs,
    moved_to,
    picked_up,
    place,
    samples,
    settle,
    spot_at,
)
from tests.test_erasure import dump, erase_runner
from tests.test_outgoing import Reader, all_out, draining, words
from tests.test_store_ingest import accepted as accepted_by
from tests.test_store_ingest import delivered, track_of, update
from tracking.domain.events import BookingEvent, Event
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.erasing import runners
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.erased import without_names
from tracking.store.maintenance.arriving import note_arrivals
from tracking.store.maintenance.looking import Looks
from tracking.store.statements import transaction

# The other runner takes the pet over on the way to the dropoff.
HANDOVER_S = LEAVE_S + 50


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database and topics that no other server drains."""
    with fresh_database(environ) as own:
        prefix = f"test-{uuid4().hex[:12]}"
        yield {**own, "KAFKA_TOPIC_PREFIX": prefix, "KAFKA_GROUP_ID": prefix, "SERVICE_PORT": "0"}


@pytest.fixture
def engine(own: dict[str, str]) -> Iterator[sa.Engine]:
    engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=5)
    yield engine
    engine.dispose()


def handed_over(engine: sa.Engine, other: UUID) -> Trip:
    """Its first runner came to the pickup, the other one to the dropoff; settled."""
    trip = a_trip(60)
    store_batch(engine, accepted(trip))
    _drive(engine, trip, trip.runner_id, 0, LEAVE_S)
    store_batch(engine, [picked_up(trip, LEAVE_S)])
    _drive(engine, trip, trip.runner_id, LEAVE_S, HANDOVER_S)
    store_batch(engine, [accepted_by(trip, HANDOVER_S, other)])
    _drive(engine, trip, other, HANDOVER_S, END_S)
    end = BookingEvent(trip.booking_id, "delivered", trip.at(END_S), other)
    store_batch(engine, [end])
    settle(engine, trip)
    return trip


def _drive(engine: sa.Engine, trip: Trip, runner_id: UUID, first: int, last: int) -> None:
    looks = Looks()
    for second in range(first, last, 5):
        longitude, latitude = place(spot_at(second))
        report = update(trip, second, runner_id=runner_id, longitude=longitude, latitude=latitude)
        store_batch(engine, [report])
        note_arrivals(engine, looks)


def told(engine: sa.Engine, trip: Trip) -> list[object]:
    return [event["id"] for event in events(engine, trip)]


def test_the_other_runners_arrival_is_not_told_again_and_not_sampled_twice(
    engine: sa.Engine,
) -> None:
    other = uuid4()
    trip = handed_over(engine, other)
    before, said, known = legs(engine, trip), told(engine, trip), samples(engine)
    assert (before["dropoff"].state, known > 0) == ("arrived", True)
    erase_runner(engine, trip.runner_id)
    settle(engine, trip)
    assert (told(engine, trip), samples(engine)) == (said, known)
    assert legs(engine, trip)["dropoff"] == before["dropoff"]
    erase_runner(engine, other)
    settle(engine, trip)
    assert (told(engine, trip), samples(engine)) == (said, known)
    after = legs(engine, trip)["dropoff"]
    assert (after.state, after.arrived_at, after.approaching_at) == ("en_route", None, None)


def test_what_an_erased_runner_proved_is_forgotten_and_not_withdrawn(engine: sa.Engine) -> None:
    trip = a_trip(60)
    drive: list[Event] = [moved_to(trip, second) for second in range(0, END_S, 5)]
    ends = [picked_up(trip, LEAVE_S), delivered(trip, END_S)]
    store_batch(engine, [*accepted(trip), *drive, *ends])
    settle(engine, trip)
    said, known = told(engine, trip), samples(engine)
    assert {leg.arrived_at for leg in legs(engine, trip).values()} >= {trip.at(WAIT_S - 5)}
    erase_runner(engine, trip.runner_id)
    for _ in range(2):
        settle(engine, trip)
        assert (told(engine, trip), samples(engine)) == (said, known)
        for leg in legs(engine, trip).values():
            assert (leg.state, leg.arrived_at, leg.evidence_seq) == ("en_route", None, None)


def lock_is_awaited(engine: sa.Engine) -> bool:
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND query LIKE '%LOCK TABLE booking_facts%'"
        )
        return cursor.fetchone() is not None


def test_a_writer_that_had_asked_but_not_written_is_waited_for(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told that nobody is erased, and then writes his name into another booking."""
    trip, new, waits = a_trip(60), a_trip(30), Flag()
    store_batch(engine, [*accepted(trip), delivered(trip, 60)])
    sleep = time.sleep

    def waiting(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(runners.time, "sleep", waiting)  # type: ignore[attr-defined]
    fact = BookingEvent(new.booking_id, "accepted", new.at(0), trip.runner_id, new.owner_id)
    with ThreadPoolExecutor(1) as executor:
        with transaction(engine, whole=True) as writer:
            assert without_names(writer, [fact]) == [fact]
            erased = executor.submit(erase_runner, engine, trip.runner_id)
            wait_until(lambda: waits.is_set() or erased.done(), "it waits")
            writer.execute("INSERT INTO bookings (booking_id) VALUES (%s)", (new.booking_id,))
            writer.execute(
                "INSERT INTO booking_facts (booking_id, kind, occurred_at, runner_id)"
                " VALUES (%s, 'accepted', %s, %s)",
                (new.booking_id, new.at(0), trip.runner_id),
            )
        erased.result(30)
    assert str(trip.runner_id) not in dump(engine)


def test_a_row_of_the_access_log_that_is_being_written_does_not_keep_him(
    engine: sa.Engine,
) -> None:
    trip = a_trip(60)
    store_batch(engine, [*accepted(trip), delivered(trip, 60)])
    with ThreadPoolExecutor(1) as executor:
        with transaction(engine, whole=True) as writer:
            writer.execute(
                "INSERT INTO accesses (booking_id, reader_id, role, way, first_at, last_at, count)"
                " VALUES (%s, %s, 'runner', 'rest', now(), now(), 1)",
                (trip.booking_id, trip.runner_id),
            )
            erased = executor.submit(erase_runner, engine, trip.runner_id)
            wait_until(lambda: erased.done() or lock_is_awaited(engine), "it waits")
        erased.result(30)
    assert str(trip.runner_id) not in dump(engine)


def test_events_that_waited_for_positions_of_an_erased_runner_go_out(
    own: dict[str, str], engine: sa.Engine
) -> None:
    """They had not gone out when he was erased: all of a trip, and the last ones of another."""
    alone, handed, other = (Trip(datetime.now(UTC) - timedelta(hours=n)) for n in (1, 3, 5))
    handed.runner_id = alone.runner_id
    store_batch(engine, [accepted_by(alone), update(alone, 1), update(alone, 2)])
    store_batch(engine, [
        accepted_by(handed, 0, other.runner_id), update(handed, 1, runner_id=other.runner_id),
        accepted_by(handed, 10), update(handed, 11), update(handed, 12),
    ])  # fmt: skip
    store_batch(engine, [delivered(alone, 60), delivered(handed, 60)])
    done = run_program("erase.py", "--runner", str(alone.runner_id), environ=own)
    assert (done.returncode, "4 waypoints" in done.stdout) == (0, True), done.stderr
    reader = Reader(own)
    with draining(own, engine):
        for trip in (alone, handed):
            reader.wait_for(trip, "completed")
        # What is told later waits for nothing, either.
        store_batch(engine, [delivered(handed, 50)])
        reader.wait_for(handed, "corrected")
        wait_until(lambda: all_out(engine), "nothing waits")
    assert words(reader.of(alone)) == ["started", "completed"]
    assert words(reader.of(handed)) == ["started", 1, "completed", "corrected"]
    assert str(alone.runner_id) not in dump(engine)
    settle(engine, alone)
    assert track_of(engine, alone).waypoint_count == 0
    reader.close()
    with transaction(engine) as cursor:
        cursor.execute("SELECT count(*) FROM tracks WHERE NOT metadata_current")
        assert cursor.fetchone() == (1,)  # only the one that was not settled
