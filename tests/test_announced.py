"""tracking.store.outbox.announced: nothing that an event says of a trip's end goes stale."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from tests.running import Trip, fresh_database
from tests.test_erasure import erase_runner
from tests.test_store_ingest import accepted, delivered, track_of, update
from tests.test_store_outbox import finished, publish, types, written
from tracking.domain.verdicts import Verdict
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.statements import transaction

FAR = {"longitude": 121.0}  # from there nobody comes back within seconds


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """A database whose events no server takes."""
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=5)
        yield engine
        engine.dispose()


def execute(engine: sa.Engine, statement: str, *values: object) -> None:
    with transaction(engine) as cursor:
        cursor.execute(statement, values)


def said(event: dict[str, Any]) -> list[object]:
    return [event[key] for key in ("duration_s", "waypoints", "reported_distance_km")]


def test_an_earlier_start_that_comes_later_is_a_correction(engine: sa.Engine) -> None:
    trip = finished(engine)
    completed = written(engine, trip)[1]
    publish(engine, trip)
    store_batch(engine, [accepted(trip, -240)])
    (event,) = written(engine, trip)
    assert (event["type"], event["replaces"]) == ("tracking.corrected", completed["id"])
    assert (completed["duration_s"], event["duration_s"]) == (60, 300)
    assert event["previous_started_at"] == completed["started_at"] > event["started_at"]
    assert event["total_distance_km"] == event["previous_distance_km"]


def test_a_late_waypoint_that_is_left_out_is_a_correction(engine: sa.Engine) -> None:
    trip = finished(engine)
    completed = written(engine, trip)[1]
    publish(engine, trip)
    store_batch(engine, [update(trip, 5, **FAR)])
    (event,) = written(engine, trip)
    assert event["total_distance_km"] == event["previous_distance_km"]
    assert (event["previous_waypoints"], event["waypoints"]) == (2, 3)
    assert event["previous_reported_distance_km"] == completed["reported_distance_km"]
    assert event["reported_distance_km"] > 1_000 > event["previous_reported_distance_km"]


def test_what_comes_twice_corrects_nothing(engine: sa.Engine) -> None:
    trip = finished(engine)
    store_batch(engine, [update(trip, 5, **FAR), accepted(trip, -240)])
    publish(engine, trip)
    store_batch(engine, [update(trip, 5, **FAR), accepted(trip, -240), accepted(trip)])
    update_metadata(engine, track_of(engine, trip).id)
    store_batch(engine, [update(trip, 5, **FAR), delivered(trip, 60)])
    assert written(engine, trip) == []


def test_a_correction_that_waits_gives_what_consumers_know_to_the_next(engine: sa.Engine) -> None:
    trip = finished(engine)
    completed = written(engine, trip)[1]
    store_batch(engine, [update(trip, 5, **FAR)])
    store_batch(engine, [accepted(trip, -240)])
    assert types(engine, trip) == ["started", "completed", "corrected"]
    corrected = written(engine, trip)[2]
    assert corrected["replaces"] == completed["id"]
    assert corrected["previous_started_at"] == completed["started_at"]
    assert corrected["previous_waypoints"] == completed["waypoints"]
    assert corrected["previous_reported_distance_km"] == completed["reported_distance_km"]


def test_two_corrections_of_one_event_have_ids_of_their_own(engine: sa.Engine) -> None:
    """Restored from a backup, another correction may follow the same event."""
    trip = finished(engine)
    store_batch(engine, [accepted(trip, -240)])
    first = written(engine, trip)[2]
    store_batch(engine, [accepted(trip, -250)])
    second = written(engine, trip)[2]
    assert first["replaces"] == second["replaces"]
    assert first["id"] != second["id"]


def test_what_a_release_before_announced_differs_in_nothing_that_it_did_not_keep(
    engine: sa.Engine,
) -> None:
    """Its columns are NULL, or those of the event before."""
    untold, older = finished(engine), finished(engine)
    execute(engine, "UPDATE tracks SET announced_whole_id = NULL, announced_started_at = NULL,"
            " announced_waypoints = NULL, announced_reported_mm = NULL WHERE booking_id = %s",
            untold.booking_id)  # fmt: skip
    execute(engine, "UPDATE tracks SET announced_id = gen_random_uuid() WHERE booking_id = %s",
            older.booking_id)  # fmt: skip
    for trip in (untold, older):
        publish(engine, trip)
        store_batch(engine, [accepted(trip, -240)])
        assert written(engine, trip) == []
        store_batch(engine, [update(trip, 20)])
        (event,) = written(engine, trip)
        assert event["previous_started_at"] is event["previous_waypoints"] is None
        assert event["duration_s"] == 300
        execute(engine, "DELETE FROM outbox WHERE booking_id = %s", trip.booking_id)
        store_batch(engine, [update(trip, 5, **FAR)])  # from now on all is known
        (event,) = written(engine, trip)
        assert (event["previous_waypoints"], event["waypoints"]) == (3, 4)


def test_erasing_a_runner_is_no_correction(engine: sa.Engine) -> None:
    trip = Trip()
    other = Trip().runner_id
    store_batch(engine, [accepted(trip), update(trip, 0), update(trip, 5, **FAR), update(trip, 9)])
    store_batch(engine, [accepted(trip, 20, other), update(trip, 25, runner_id=other)])
    store_batch(engine, [delivered(trip, 60)])
    publish(engine, trip)
    erase_runner(engine, trip.runner_id)
    update_metadata(engine, track_of(engine, trip).id)
    store_batch(engine, [delivered(trip, 60)], adopt=[trip.booking_id])
    assert written(engine, trip) == []
    store_batch(engine, [update(trip, 30, runner_id=other)])
    (event,) = written(engine, trip)
    assert (event["previous_waypoints"], event["waypoints"]) == (1, 2)
    assert datetime.fromisoformat(event["previous_started_at"]) == trip.start.astimezone(UTC)


def test_a_route_that_expires_is_no_correction(engine: sa.Engine) -> None:
    trip = finished(engine)
    store_batch(engine, [update(trip, 5, **FAR)])
    update_metadata(engine, track_of(engine, trip).id)
    publish(engine, trip)
    execute(engine, "UPDATE tracks SET route_expired_at = now(), version = version + 1,"
            " last_recorded_at = NULL, last_runner_id = NULL, last_reported_at = NULL,"
            " last_position = NULL WHERE booking_id = %s", trip.booking_id)  # fmt: skip
    execute(engine, "DELETE FROM waypoints WHERE track_id = %s AND verdict = %s",
            track_of(engine, trip).id, int(Verdict.JUMP))  # fmt: skip
    store_batch(engine, [update(trip, 20), delivered(trip, 60)], adopt=[trip.booking_id])
    assert written(engine, trip) == []
