"""tracking.store.erasing, and what ingest does with it: what is erased is gone, and stays so."""

import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from tests.programs import run_program
from tests.running import Trip
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.erasure import NOBODY, runner_digest
from tracking.domain.events import BookingEvent, Event
from tracking.domain.shares import ShareTerms
from tracking.errors import NotFound, TripActive
from tracking.store.erasing import runners
from tracking.store.erasing.bookings import (
    KEPT,
    OF_BOOKING,
    OF_TRACK,
    bookings_of_owner,
    erase_booking,
)
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.read.live import live_state
from tracking.store.read.tracks import booking_access, find_track
from tracking.store.shares import create_share
from tracking.store.statements import transaction
from workers.erasures import ErasedRunner, apply_again

HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
# A place that no other trip of the test has.
LONGITUDE, LATITUDE = 106.7313, -6.2139


def events(trip: Trip, count: int = 3) -> list[Event]:
    requested = BookingEvent(
        trip.booking_id, "requested", trip.at(-60), owner_id=trip.owner_id,
        pickup=(LONGITUDE, LATITUDE), dropoff=(LONGITUDE, LATITUDE),
    )  # fmt: skip
    places = [
        update(trip, n * 10, longitude=LONGITUDE + n * 1e-4, latitude=LATITUDE)
        for n in range(1, count + 1)
    ]
    nameless = [
        update(trip, n * 10 + 5, longitude=LONGITUDE, latitude=LATITUDE, booking_id=None)
        for n in range(1, count + 1)
    ]
    return [requested, accepted(trip), *places, *nameless, delivered(trip, 100)]


def ended(engine: sa.Engine) -> Trip:
    """A trip with rows in every table that may have one."""
    trip = Trip(HOUR_AGO)
    store_batch(engine, events(trip))
    update_metadata(engine, track_of(engine, trip).id)
    terms = ShareTerms(label="grandma", from_pickup=False, after_end_s=60, expires_in_s=60)
    create_share(engine, trip.booking_id, f"token {trip.booking_id}", trip.owner_id, terms)
    return trip


def rows(engine: sa.Engine, statement: str, **values: object) -> list[dict[str, object]]:
    with engine.connect() as connection:
        found = connection.execute(sa.text(statement), values)
        return [dict(row) for row in found.mappings()]


def dump(engine: sa.Engine) -> str:
    """The whole database as `pg_dump` writes it, every value as text."""
    url = engine.url
    environ = {**os.environ, "PGPASSWORD": url.password or ""}
    command = ["pg_dump", "-h", str(url.host), "-p", str(url.port), "-U", str(url.username),
               "--data-only", "--inserts", str(url.database)]  # fmt: skip
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    return "".join(  # psql's \\restrict has a new key each time
        line for line in done.stdout.splitlines(keepends=True) if not line.startswith("\\")
    )


def hexadecimal(engine: sa.Engine, longitude: float, latitude: float) -> str:
    """A place as a dump has it: the end of its EWKB."""
    (row,) = rows(
        engine, "SELECT right(ST_MakePoint(:x, :y)::text, 32) AS place", x=longitude, y=latitude
    )
    return str(row["place"])


def traces(engine: sa.Engine, trip: Trip) -> dict[str, str]:
    """What must not be in a dump: both ids, the places as EWKB and as numbers."""
    found = {"owner": str(trip.owner_id), "runner": str(trip.runner_id), "number": "BK-1"}
    for n in range(4):
        place = LONGITUDE + n * 1e-4
        found[f"place {n}"] = hexadecimal(engine, place, LATITUDE)
        if n in (0, 3):  # of its ends, which are in the summary as numbers
            found[f"longitude {n}"] = f"{place:.4f}"
    return found | {"latitude": f"{LATITUDE}", "label": "grandma"}


def remaining(engine: sa.Engine, trip: Trip, without: Iterable[str] = ()) -> list[str]:
    text = dump(engine).lower()
    return [
        name
        for name, trace in traces(engine, trip).items()
        if name not in without and trace.lower() in text
    ]


def erased_outcomes(stored: Stored) -> tuple[int, int]:
    facts = sum(n for (_, outcome), n in stored.fact_outcomes.items() if outcome == "erased")
    return stored.update_outcomes["erased"], facts


def test_nothing_of_an_erased_booking_is_in_a_dump_of_the_database(own_engine: sa.Engine) -> None:
    trip = ended(own_engine)
    # Each trace is found as long as it is there.
    assert set(remaining(own_engine, trip)) == set(traces(own_engine, trip))
    tried = erase_booking(own_engine, trip.booking_id, dry_run=True)
    assert set(remaining(own_engine, trip)) >= {"owner", "runner", "place 0", "place 1", "label"}
    done = erase_booking(own_engine, trip.booking_id)
    assert remaining(own_engine, trip) == []
    assert done.rows == tried.rows
    assert done.rows["waypoints"] == 6
    assert (done.rows["parked_updates"], done.rows["share_links"]) == (3, 1)
    assert str(trip.booking_id) in dump(own_engine)
    again = erase_booking(own_engine, trip.booking_id)
    assert (again.rows, again.erased_at) == ({}, done.erased_at)
    assert find_track(own_engine, trip.booking_id) is None
    assert booking_access(own_engine, trip.booking_id) is None
    assert live_state(own_engine, trip.booking_id) is None


def test_no_table_that_names_a_booking_a_track_or_a_person_is_forgotten(
    engine: sa.Engine,
) -> None:
    named = rows(
        engine,
        """
        SELECT DISTINCT table_name FROM information_schema.columns
        JOIN pg_class ON relname = table_name AND NOT relispartition
        WHERE table_schema = 'public' AND (column_name IN ('booking_id', 'track_id', 'created_by')
            OR column_name LIKE '%owner_id%' OR column_name LIKE '%runner%'
            OR column_name LIKE '%user_id%' OR column_name = 'reader_id'
            OR udt_name IN ('geometry', 'geography', 'jsonb', 'json'))
        """,
    )
    known = {*OF_TRACK, *OF_BOOKING, *KEPT, "parked_updates"}
    # PostGIS's own.
    assert {row["table_name"] for row in named} - {"geometry_columns"} == known


@pytest.mark.parametrize("cut", [1, 3, 100])
@pytest.mark.parametrize("knows", ["another process", "the same process"])
def test_a_replay_of_an_erased_booking_is_refused_and_counted(
    own_engine: sa.Engine, cut: int, knows: str
) -> None:
    trip, other = ended(own_engine), Trip(HOUR_AGO)
    cache = TrackCache()
    if knows == "the same process":
        store_batch(own_engine, [update(trip, 42)], known=cache)
        assert len(cache) == 1
    erase_booking(own_engine, trip.booking_id)
    before = dump(own_engine)
    all_, updates, facts = events(trip), 0, 0
    for first in range(0, len(all_), cut):
        stored = store_batch(own_engine, all_[first : first + cut], known=cache)
        more_updates, more_facts = erased_outcomes(stored)
        updates, facts = updates + more_updates, facts + more_facts
        assert not stored.bookings
    assert (updates, facts) == (6, 3)
    assert remaining(own_engine, trip) == []
    assert dump(own_engine) == before
    # Beside it, others go on.
    mixed: list[Event] = [accepted(other), update(other, 1), update(trip, 50)]
    stored = store_batch(own_engine, mixed, known=TrackCache())
    assert stored.update_outcomes == {"applied": 1, "erased": 1}
    assert track_of(own_engine, other).waypoint_count == 1


def test_a_booking_of_which_only_its_request_is_known_is_erased(own_engine: sa.Engine) -> None:
    trip = Trip(HOUR_AGO)
    store_batch(own_engine, [events(trip)[0], update(trip, 1)])
    erase_booking(own_engine, trip.booking_id)
    assert remaining(own_engine, trip, without=("runner",)) == []
    assert erased_outcomes(store_batch(own_engine, events(trip))) == (3, 3)


def test_an_active_trip_and_an_unknown_booking_stay(own_engine: sa.Engine) -> None:
    trip = Trip(HOUR_AGO)
    with pytest.raises(NotFound):
        erase_booking(own_engine, trip.booking_id)
    store_batch(own_engine, events(trip)[:-1])
    with pytest.raises(TripActive):
        erase_booking(own_engine, trip.booking_id)
    assert track_of(own_engine, trip).waypoint_count == 6


def test_the_erasure_goes_out_as_the_last_event_of_the_booking(own_engine: sa.Engine) -> None:
    trip = ended(own_engine)
    done = erase_booking(own_engine, trip.booking_id)
    assert done.erased_at is not None
    (row,) = rows(own_engine, "SELECT * FROM outbox")
    assert (row["type"], row["booking_id"]) == ("tracking.erased", trip.booking_id)
    data = row["data"]
    assert isinstance(data, dict)
    assert datetime.fromisoformat(data["erased_at"]) == done.erased_at
    assert [span[0] for span in data["spans"]] == [runner_digest(trip.runner_id).hex()]


def erase_runner(engine: sa.Engine, runner_id: UUID) -> None:
    before = datetime.now(UTC)
    runners.begin(engine, runner_id, before)
    for each in runners.bookings_of_runner(engine, runner_id, before):
        runners.erase_from_booking(engine, runner_id, each.booking_id)
    runners.forget_parked(engine, runner_id, before)


def test_a_runner_goes_from_his_trips_and_they_stay(own_engine: sa.Engine) -> None:
    trip = ended(own_engine)
    before = track_of(own_engine, trip)
    erase_runner(own_engine, trip.runner_id)
    # The trip's ends are its owner's.
    places = {"owner", "place 0", "longitude 0", "latitude", "label", "number"}
    assert remaining(own_engine, trip, without=places) == []
    after = track_of(own_engine, trip)
    assert (after.runner_id, after.status, after.completed_at) == (
        NOBODY, "completed", before.completed_at,
    )  # fmt: skip
    assert (after.waypoint_count, after.distance_mm, after.last_recorded_at) == (0, 0, None)
    assert after.epoch != before.epoch
    store_batch(own_engine, events(trip), known=TrackCache())
    update_metadata(own_engine, after.id)
    assert remaining(own_engine, trip, without=places) == []
    assert track_of(own_engine, trip).waypoint_count == 0
    types = [row["type"] for row in rows(own_engine, "SELECT type FROM outbox ORDER BY id")]
    assert "tracking.corrected" not in types
    assert "tracking.runner_erased" in types


def test_a_runner_who_works_on_is_recorded_again(own_engine: sa.Engine) -> None:
    old = ended(own_engine)
    erased_at = datetime.now(UTC)
    erase_runner(own_engine, old.runner_id)
    new = Trip(datetime.now(UTC) + timedelta(minutes=5))
    new.runner_id = old.runner_id
    store_batch(own_engine, events(new))
    assert track_of(own_engine, new).waypoint_count == 6
    assert track_of(own_engine, new).runner_id == old.runner_id
    # A restore applies all erasures again, also those that were long before the backup.
    digest = runner_digest(old.runner_id).hex()
    apply_again(own_engine, ErasedRunner(digest, erased_at))
    assert track_of(own_engine, new).waypoint_count == 6
    assert track_of(own_engine, new).runner_id == old.runner_id


def test_an_erased_booking_gets_no_share_link(own_engine: sa.Engine) -> None:
    trip = ended(own_engine)
    erase_booking(own_engine, trip.booking_id)
    terms = ShareTerms(label="late", from_pickup=False, after_end_s=60, expires_in_s=60)
    with pytest.raises(NotFound):
        create_share(own_engine, trip.booking_id, "token", trip.owner_id, terms)
    assert rows(own_engine, "SELECT * FROM share_links") == []


def test_of_two_runners_of_a_trip_the_other_one_stays(own_engine: sa.Engine) -> None:
    trip, other = Trip(HOUR_AGO), Trip()
    handover: list[Event] = [
        accepted(trip), accepted(trip, 0, runner_id=other.runner_id), update(trip, -30),
        accepted(trip, 200, runner_id=other.runner_id),
        update(trip, 210, runner_id=other.runner_id), update(trip, 220, runner_id=other.runner_id),
        delivered(trip, 300),
    ]  # fmt: skip
    store_batch(own_engine, handover)
    erase_runner(own_engine, trip.runner_id)
    left = rows(own_engine, "SELECT runner_id FROM waypoints")
    assert {row["runner_id"] for row in left} == {other.runner_id}
    track = track_of(own_engine, trip)
    assert (track.waypoint_count, track.runner_id) == (2, other.runner_id)
    assert str(trip.runner_id) not in dump(own_engine)
    erase_runner(own_engine, other.runner_id)  # both had accepted at the same moment
    assert str(other.runner_id) not in dump(own_engine)


def command(engine: sa.Engine, environ: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    own = {**environ, "DB_NAME": str(engine.url.database)}
    done = run_program("erase.py", *arguments, environ=own)
    return done.returncode, done.stdout, done.stderr


def test_the_command_erases_all_of_an_owner_but_what_is_under_way(
    own_engine: sa.Engine, environ: dict[str, str]
) -> None:
    first, second, active, another = (Trip(HOUR_AGO) for _ in range(4))
    for trip in (second, active):
        trip.owner_id = first.owner_id
    for trip in (first, second, another):
        store_batch(own_engine, events(trip))
    store_batch(own_engine, events(active)[:-1])
    owner = ("--owner", str(first.owner_id))
    status, out, err = command(own_engine, environ, *owner, "--dry-run")
    assert (status, out.startswith("2 bookings would be erased: ")) == (1, True), err
    assert len(bookings_of_owner(own_engine, first.owner_id)) == 3
    status, out, err = command(own_engine, environ, *owner)
    assert (status, out.startswith("2 bookings erased: ")) == (1, True), err
    assert str(active.booking_id) in err
    assert bookings_of_owner(own_engine, first.owner_id) == [active.booking_id]
    store_batch(own_engine, [delivered(active, 100)])
    status, out, err = command(own_engine, environ, *owner)
    assert (status, out.startswith("1 bookings erased: ")) == (0, True), err
    assert str(first.owner_id) not in dump(own_engine)
    assert track_of(own_engine, another).waypoint_count == 6


def test_the_command_erases_a_booking_and_a_runner(
    own_engine: sa.Engine, environ: dict[str, str]
) -> None:
    trip, other = ended(own_engine), ended(own_engine)
    status, out, err = command(own_engine, environ, "--booking", str(trip.booking_id))
    assert (status, "6 waypoints" in out) == (0, True), err
    status, out, err = command(own_engine, environ, "--runner", str(other.runner_id), "--dry-run")
    assert (status, out) == (0, "1 bookings would be erased\n"), err
    status, out, err = command(own_engine, environ, "--runner", str(other.runner_id))
    assert (status, "6 waypoints" in out) == (0, True), err
    assert str(other.runner_id) not in dump(own_engine)
    status, out, err = command(own_engine, environ, "--booking", str(Trip().booking_id))
    assert (status, "no such booking" in err) == (1, True)
    active = Trip(HOUR_AGO)
    store_batch(own_engine, events(active)[:-1])
    status, out, err = command(own_engine, environ, "--runner", str(active.runner_id))
    assert (status, "under way" in err) == (1, True)
    assert track_of(own_engine, active).waypoint_count == 6


def test_the_planners_statistics_have_nothing_of_who_was_erased(
    own_engine: sa.Engine, environ: dict[str, str]
) -> None:
    def statistics() -> str:
        return str(rows(own_engine, "SELECT s::text AS text FROM pg_stats s"))

    trip, other = ended(own_engine), ended(own_engine)
    with own_engine.connect() as connection:
        connection.execute(sa.text("ANALYZE"))
        connection.commit()
    people = {str(trip.owner_id), str(trip.runner_id)}
    assert all(person in statistics() for person in people)
    command(own_engine, environ, "--booking", str(trip.booking_id), "--dry-run")
    assert all(person in statistics() for person in people)
    assert command(own_engine, environ, "--booking", str(trip.booking_id))[0] == 0
    assert not any(person in statistics() for person in people)
    assert str(other.owner_id) in statistics()


@pytest.mark.parametrize("arguments", [(), ("--booking", "1"), ("--booking", str(NOBODY))])
def test_the_command_wants_one_id(arguments: tuple[str, ...]) -> None:
    assert run_program("erase.py", *arguments, environ={}).returncode == 2


def test_a_transaction_that_must_be_whole_is_refused_where_it_would_not_be(
    engine: sa.Engine,
) -> None:
    single = engine.execution_options(isolation_level="AUTOCOMMIT")
    with (
        pytest.raises(AssertionError, match="each statement"),
        transaction(single, whole=True),
    ):
        pass
