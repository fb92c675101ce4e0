"""tracking.store.outbox.summarized and tracking.wire.summarized: who was told what of a summary."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from tests.running import Trip, fresh_database, wait_until
from tests.test_arriving import END_S, LEAVE_S, a_trip, moved_to, picked_up
from tests.test_arriving import accepted as accepted_at
from tests.test_erasure import dump, erase_runner
from tests.test_store_ingest import accepted, delivered, track_of, update
from tests.test_store_outbox import abandon, cancel, written
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.erasing.bookings import erase_booking
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import expiry, metadata
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks
from tracking.store.outbox import summarized
from tracking.store.outbox.summarized import TOLD_WITHIN_DAYS
from tracking.store.read.summaries import settled_summary
from tracking.store.read.told_arrivals import arrivals_of
from tracking.store.statements import transaction
from tracking.wire.summarized import settled_fields

FAR = {"longitude": 121.0}


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """A database whose events no server takes, and whose trips none settles."""
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=5)
        yield engine
        engine.dispose()


def execute(engine: sa.Engine, statement: str, *values: object) -> None:
    with transaction(engine) as cursor:
        cursor.execute(statement, values)


def finished(engine: sa.Engine, start: datetime | None = None) -> Trip:
    trip = Trip(start)
    store_batch(engine, [accepted(trip), update(trip, 0), update(trip, 9), delivered(trip, 60)])
    return trip


def settle(engine: sa.Engine, trip: Trip) -> None:
    """As maintenance does."""
    update_metadata(engine, track_of(engine, trip).id, describe=settled_fields)


def told(engine: sa.Engine, trip: Trip) -> list[dict[str, Any]]:
    return [e for e in written(engine, trip) if e["type"] == "tracking.summarized"]


def send(engine: sa.Engine, trip: Trip) -> None:
    """All of the trip is claimed, as if it were on its way; the rows stay."""
    execute(engine, "UPDATE outbox SET taken = true WHERE booking_id = %s", trip.booking_id)


def begin_later(engine: sa.Engine, trip: Trip, minutes: int) -> None:
    execute(engine, "UPDATE tracks SET started_at = started_at + make_interval(mins => %s),"
            " version = version + 1, metadata_current = false WHERE booking_id = %s",
            minutes, trip.booking_id)  # fmt: skip


def rest(engine: sa.Engine, trip: Trip) -> dict[str, Any]:
    """What GET …/summary says of a settled trip."""
    track = track_of(engine, trip)
    found = settled_summary(engine, track)
    assert found.is_settled
    return settled_fields(
        track, found.summary, bool(found.implausible), found.route_sha256,
        arrivals_of(engine, track.id),
    )  # fmt: skip


def test_a_settled_summary_is_told_once_behind_the_trips_end(engine: sa.Engine) -> None:
    trip = finished(engine)
    assert told(engine, trip) == []
    for _ in range(2):
        settle(engine, trip)
    *_, completed, event = written(engine, trip)
    assert (completed["type"], event["type"]) == ("tracking.completed", "tracking.summarized")
    assert rest(engine, trip).items() <= event.items()
    assert (event["final"], event["replaces"]) == (True, None)
    assert event["owner_id"] == str(trip.owner_id)
    assert event["runner_id"] == str(trip.runner_id)
    assert event["occurred_at"] == completed["completed_at"]
    assert event["after"] == completed["after"] == 2
    assert event["duration_s"] == completed["duration_s"]


def test_it_says_stops_gaps_counts_and_arrivals_as_rest_does(engine: sa.Engine) -> None:
    trip = a_trip(60)
    drive = [moved_to(trip, second) for second in range(0, END_S, 5)]
    store_batch(engine, [*accepted_at(trip), *drive, picked_up(trip, LEAVE_S)])
    store_batch(engine, [delivered(trip, END_S)])
    settle(engine, trip)
    (event,) = told(engine, trip)
    assert rest(engine, trip).items() <= event.items()
    assert event["stops"]
    assert event["arrivals"]["pickup"]["state"] == "arrived"
    assert event["counts"]["waypoints"] == len(drive)


def test_late_data_tell_it_again_and_name_what_that_replaces(engine: sa.Engine) -> None:
    trip = finished(engine)
    settle(engine, trip)
    send(engine, trip)
    store_batch(engine, [update(trip, 5, **FAR)])  # only the counts
    settle(engine, trip)
    first, second = told(engine, trip)
    assert second["replaces"] == first["id"] != second["id"]
    assert (first["counts"]["waypoints"], second["counts"]["waypoints"]) == (2, 3)
    assert rest(engine, trip).items() <= second.items()
    assert second["after"] == 3
    types = [event["type"] for event in written(engine, trip)]
    assert types[-2:] == ["tracking.corrected", "tracking.summarized"]


def test_one_that_waits_gives_way_to_the_next(engine: sa.Engine) -> None:
    trip = finished(engine)
    settle(engine, trip)
    store_batch(engine, [update(trip, 20)])
    settle(engine, trip)
    (first,) = told(engine, trip)
    assert (first["replaces"], first["counts"]["waypoints"]) == (None, 3)
    send(engine, trip)
    for second in (21, 22):
        store_batch(engine, [update(trip, second)])
        settle(engine, trip)
    _, last = told(engine, trip)
    assert (last["replaces"], last["counts"]["waypoints"]) == (first["id"], 5)


def test_what_is_again_as_consumers_know_it_is_not_told(engine: sa.Engine) -> None:
    trip = finished(engine)
    settle(engine, trip)
    send(engine, trip)
    known = told(engine, trip)
    begin_later(engine, trip, -1)
    settle(engine, trip)
    assert len(told(engine, trip)) == 2
    begin_later(engine, trip, 1)
    for _ in range(2):
        settle(engine, trip)
    assert told(engine, trip) == known


def test_a_summary_that_comes_back_has_another_id(engine: sa.Engine) -> None:
    """Or who has heard of it would pass it over."""
    trip = finished(engine)
    for minutes in (0, 1, -1):
        begin_later(engine, trip, minutes)
        settle(engine, trip)
        send(engine, trip)
    first, second, third = told(engine, trip)
    assert first["duration_s"] == third["duration_s"] != second["duration_s"]
    assert third["replaces"] == second["id"]
    assert len({first["id"], second["id"], third["id"]}) == 3


def test_another_numbering_of_the_same_route_is_no_news(engine: sa.Engine) -> None:
    trip = finished(engine)
    settle(engine, trip)
    send(engine, trip)
    execute(engine, "UPDATE tracks SET epoch = 'restored', version = version + 1"
            " WHERE booking_id = %s", trip.booking_id)  # fmt: skip
    settle(engine, trip)
    assert len(told(engine, trip)) == 1


def test_only_completed_trips_are_told(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0)])
    cancel(engine, trip, 20)
    settle(engine, trip)
    assert told(engine, trip) == []
    given_up = Trip()
    store_batch(engine, [accepted(given_up), update(given_up, 0)])
    abandon(engine, given_up, 20)
    settle(engine, given_up)
    assert len(told(engine, given_up)) == 1


def test_history_is_not_told_but_what_was_told_is_told_anew(engine: sa.Engine) -> None:
    """An upgrade, or verdicts.py over all trips, is no flood."""
    old = finished(engine, datetime.now(UTC) - timedelta(days=TOLD_WITHIN_DAYS, minutes=5))
    settle(engine, old)
    assert told(engine, old) == []
    known = finished(engine)
    settle(engine, known)
    send(engine, known)
    execute(engine, "UPDATE tracks SET started_at = started_at - interval '30 days',"
            " completed_at = completed_at - interval '30 days', version = version + 1"
            " WHERE booking_id = %s", known.booking_id)  # fmt: skip
    settle(engine, known)
    assert len(told(engine, known)) == 2


def test_lists_that_no_record_holds_are_null(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summarized, "MOST_LISTED", 1)
    trip = Trip()
    updates = [update(trip, s, longitude=106.8 + s * 1e-4) for s in (0, 5, 10, 200, 205, 500, 505)]
    store_batch(engine, [accepted(trip), *updates, delivered(trip, 510)])
    settle(engine, trip)
    (event,) = told(engine, trip)
    assert (event["gaps"], event["stops"]) == (None, [])
    assert len(rest(engine, trip)["gaps"]) == 2


def test_while_somebody_changes_the_booking_nothing_is_told(engine: sa.Engine) -> None:
    """It may be an erasure, which has deleted what waits; the trip is settled again."""
    trip = finished(engine)
    track_id = track_of(engine, trip).id
    with transaction(engine) as cursor:
        cursor.execute("SELECT FROM bookings WHERE booking_id = %s FOR NO KEY UPDATE",
                       (trip.booking_id,))  # fmt: skip
        settle(engine, trip)
    assert told(engine, trip) == []
    assert track_id in waiting_tracks(engine, 10_000)
    settle(engine, trip)
    assert len(told(engine, trip)) == 1
    assert track_id not in waiting_tracks(engine, 10_000)


def test_data_that_come_while_it_is_settled_are_told_with_it(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = finished(engine)

    def late(*_: object) -> None:
        store_batch(engine, [update(trip, 20)])

    with monkeypatch.context() as patched:
        patched.setattr(metadata, "route_sha256", late)
        settle(engine, trip)
    assert told(engine, trip) == []
    settle(engine, trip)
    (event,) = told(engine, trip)
    assert event["counts"]["waypoints"] == 3


def test_nothing_is_told_of_a_trip_whose_runner_was_erased(engine: sa.Engine) -> None:
    trip = finished(engine)
    settle(engine, trip)
    assert len(told(engine, trip)) == 1
    erase_runner(engine, trip.runner_id)
    assert told(engine, trip) == []  # it has where he stood
    settle(engine, trip)
    assert told(engine, trip) == []
    unsettled = finished(engine)
    erase_runner(engine, unsettled.runner_id)
    settle(engine, unsettled)
    assert told(engine, unsettled) == []


@pytest.mark.parametrize("whole", [True, False])
def test_an_erasure_waits_for_who_settles_and_leaves_nothing(
    engine: sa.Engine, whole: bool
) -> None:
    trip, erased = finished(engine), []

    def erase() -> None:
        if whole:
            erase_booking(engine, trip.booking_id)
        else:
            erase_runner(engine, trip.runner_id)

    with ThreadPoolExecutor(1) as executor:

        def describe(*said: Any) -> dict[str, Any]:
            erased.append(executor.submit(erase))
            wait_until(lambda: is_awaited(engine), "it waits")
            return settled_fields(*said)

        update_metadata(engine, track_of(engine, trip).id, describe=describe)
        erased[0].result(30)
    assert told(engine, trip) == []
    assert str(trip.runner_id) not in dump(engine)


def is_awaited(engine: sa.Engine) -> bool:
    with transaction(engine) as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                       " AND datname = current_database()")  # fmt: skip
        return cursor.fetchone() is not None


def test_retention_waits_until_the_places_are_out(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.execute("TRUNCATE bookings CASCADE")
        cursor.execute("TRUNCATE outbox")
    trip = finished(engine, datetime.now(UTC) - timedelta(days=40))
    execute(engine, "UPDATE tracks SET summarized_id = gen_random_uuid()")  # told before
    settle(engine, trip)
    assert len(told(engine, trip)) == 1
    execute(engine, "DELETE FROM outbox WHERE type <> 'tracking.summarized'")
    execute(engine, "DELETE FROM published_watermarks")
    cutoff = datetime.now(UTC)
    assert expiry.floor_of(engine, cutoff) < trip.start
    execute(engine, "DELETE FROM outbox")
    assert expiry.floor_of(engine, cutoff) > trip.start
