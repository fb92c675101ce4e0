"""tracking.store.outbox.events and watermarks: what is to go out, written with its cause."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from tests.running import Trip, fresh_database
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.events import BookingEvent, Event
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.outbox import events as outbox
from tracking.store.outbox import watermarks
from tracking.store.outbox.watermarks import Published
from tracking.store.statements import transaction


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """A database whose events no server takes."""
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests", pool_size=5)
        yield engine
        engine.dispose()


def written(engine: sa.Engine, trip: Trip) -> list[dict[str, Any]]:
    """Events of a trip in the outbox, each its data with id, type and after_seq."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT data || jsonb_build_object('id', event_id, 'type', type, 'after', after_seq)"
            " FROM outbox WHERE booking_id = %s ORDER BY id",
            (trip.booking_id,),
        )
        return [data for (data,) in cursor]


def types(engine: sa.Engine, trip: Trip) -> list[str]:
    return [event["type"].removeprefix("tracking.") for event in written(engine, trip)]


def take(engine: sa.Engine, trip: Trip) -> list[outbox.OutboxRow]:
    """As the drainer does; the rows stay."""
    return [row for row in outbox.claim_due(engine, 10_000) if row.booking_id == trip.booking_id]


def unsent(engine: sa.Engine, trip: Trip) -> list[int]:
    """What the drainer would send next."""
    tracks = watermarks.unsent_tracks(engine, 10_000)
    spans = [
        (t.id, t.published_seq + 1, t.last_seq, t.started_at)
        for t in tracks
        if t.booking_id == str(trip.booking_id)
    ]
    return [waypoint.seq for waypoint in watermarks.waypoints_in(engine, spans)]


def publish(engine: sa.Engine, trip: Trip) -> None:
    """Everything of the trip is out."""
    while rows := take(engine, trip):
        outbox.delete_events(engine, [row.id for row in rows])
        track = track_of(engine, trip)
        with transaction(engine) as cursor:
            cursor.execute("SELECT last_recorded_at FROM tracks WHERE id = %s", (track.id,))
            (at,) = cursor.fetchone() or (None,)
        published = Published(track.head_seq, at, trip.start)
        watermarks.advance(engine, {str(track.id): published})
        watermarks.unmark_sent(engine)


def watermark(engine: sa.Engine, trip: Trip) -> tuple[Any, ...] | None:
    """(published_seq, is marked), if there is a row."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT published_seq, unsent_since IS NOT NULL FROM published_watermarks"
            " WHERE track_id = %s",
            (track_of(engine, trip).id,),
        )
        return cursor.fetchone()


def finished(engine: sa.Engine, end: float = 60) -> Trip:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0), update(trip, 9), delivered(trip, end)])
    return trip


def test_a_trip_tells_of_its_start_and_its_end_once(engine: sa.Engine) -> None:
    trip = finished(engine)
    again: list[Event] = [accepted(trip), update(trip, 0), update(trip, 9), delivered(trip, 60)]
    store_batch(engine, again)
    started, completed = written(engine, trip)
    assert (started["type"], completed["type"]) == ("tracking.started", "tracking.completed")
    distance = track_of(engine, trip).distance_mm / 1e6
    assert completed["total_distance_km"] == pytest.approx(distance)
    assert completed["owner_id"] == str(trip.owner_id)
    assert (completed["started_at"], completed["duration_s"]) == (started["started_at"], 60)
    assert completed["waypoints"] == 2


def test_late_waypoints_of_a_finished_trip_still_go_out(engine: sa.Engine) -> None:
    trip = finished(engine)
    publish(engine, trip)
    assert watermark(engine, trip) is None
    store_batch(engine, [update(trip, 2)])
    assert unsent(engine, trip) == [3]


def test_a_track_is_looked_at_only_while_it_has_something_to_send(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    assert watermark(engine, trip) is None
    publish(engine, trip)
    for number in (1, 2):
        store_batch(engine, [update(trip, number)])
        assert watermark(engine, trip) == (number - 1, True)
        assert unsent(engine, trip) == [number]
        published = Published(number, trip.at(number), trip.start)
        watermarks.advance(engine, {str(track_of(engine, trip).id): published})
        watermarks.unmark_sent(engine)
        assert watermark(engine, trip) == (number, False)


def test_a_mark_stays_while_ingest_holds_the_booking(engine: sa.Engine) -> None:
    """What it is about to add would be forgotten."""
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 1)])
    published = {str(track_of(engine, trip).id): Published(1, trip.at(1), trip.start)}
    watermarks.advance(engine, published)
    with transaction(engine) as cursor:
        cursor.execute("SELECT FROM bookings WHERE booking_id = %s FOR NO KEY UPDATE",
                       (trip.booking_id,))  # fmt: skip
        watermarks.unmark_sent(engine)
    assert watermark(engine, trip) == (1, True)
    watermarks.unmark_sent(engine)
    assert watermark(engine, trip) == (1, False)


def test_positions_wait_for_the_events_before_them(engine: sa.Engine) -> None:
    trip = finished(engine)
    assert unsent(engine, trip) == []  # tracking.started goes first
    outbox.delete_events(engine, [row.id for row in take(engine, trip)])
    store_batch(engine, [update(trip, 2)])
    assert unsent(engine, trip) == [1, 2]  # the third after tracking.completed
    assert take(engine, trip) == []


def test_late_data_correct_a_completed_trip(engine: sa.Engine) -> None:
    trip = finished(engine)
    publish(engine, trip)
    before = track_of(engine, trip)
    store_batch(engine, [update(trip, 30), update(trip, 20)])
    (event,) = written(engine, trip)
    after = track_of(engine, trip)
    assert event["type"] == "tracking.corrected"
    assert event["previous_distance_km"] == pytest.approx(before.distance_mm / 1e6)
    assert event["total_distance_km"] == pytest.approx(after.distance_mm / 1e6)
    assert event["total_distance_km"] > event["previous_distance_km"]
    assert event["previous_completed_at"] == event["completed_at"] == event["occurred_at"]
    assert event["after"] == 4
    assert (event["duration_s"], event["waypoints"]) == (60, 4)
    assert take(engine, trip) == []  # behind its positions
    assert unsent(engine, trip) == [3, 4]


def test_late_data_that_change_nothing_correct_nothing(engine: sa.Engine) -> None:
    trip = finished(engine)
    store_batch(engine, [update(trip, 0), accepted(trip), delivered(trip, 60)])
    store_batch(engine, [update(trip, 500)])  # after the end: it is refused
    assert types(engine, trip) == ["started", "completed"]
    same_place = update(trip, 9, recorded_at=trip.at(9.5), reported_at=trip.at(9.5))
    store_batch(engine, [same_place])
    _, completed, corrected = written(engine, trip)
    assert corrected["total_distance_km"] == completed["total_distance_km"]
    assert (completed["waypoints"], corrected["waypoints"]) == (2, 3)


def test_a_correction_names_the_event_that_it_replaces(engine: sa.Engine) -> None:
    trip = finished(engine)
    completed = written(engine, trip)[1]
    store_batch(engine, [update(trip, 20)])
    first = written(engine, trip)[2]
    assert first["replaces"] == completed["id"]
    assert first["previous_distance_km"] == completed["total_distance_km"]
    publish(engine, trip)
    store_batch(engine, [update(trip, 25)])
    (second,) = written(engine, trip)
    assert second["replaces"] == first["id"]
    assert second["previous_distance_km"] == first["total_distance_km"]
    assert len({completed["id"], first["id"], second["id"]}) == 3


def test_a_buffer_of_late_waypoints_is_one_correction(engine: sa.Engine) -> None:
    trip = finished(engine)
    completed = written(engine, trip)[1]
    for second in range(10, 40):
        store_batch(engine, [update(trip, second)])
    assert types(engine, trip) == ["started", "completed", "corrected"]
    correction = written(engine, trip)[2]
    assert correction["replaces"] == completed["id"]
    assert correction["previous_distance_km"] == completed["total_distance_km"]
    assert correction["total_distance_km"] == track_of(engine, trip).distance_mm / 1e6
    assert correction["after"] == 32


def test_a_correction_on_its_way_is_not_changed(engine: sa.Engine) -> None:
    trip = finished(engine)
    publish(engine, trip)
    track = track_of(engine, trip)
    store_batch(engine, [update(trip, 20)])
    (first,) = written(engine, trip)
    watermarks.advance(engine, {str(track.id): Published(3, trip.at(20), trip.start)})
    (taken,) = take(engine, trip)
    store_batch(engine, [update(trip, 25)])
    assert [event["replaces"] for event in written(engine, trip)][1] == first["id"]
    (again,) = take(engine, trip)  # a crash before it was deleted: the same once more
    assert (again.event_id, again.data) == (taken.event_id, taken.data)


def test_corrections_that_cancel_out_before_they_are_sent_are_none(engine: sa.Engine) -> None:
    trip = finished(engine, 200)
    store_batch(engine, [update(trip, 180)])
    assert types(engine, trip) == ["started", "completed", "corrected"]
    # Another runner had the booking by then: the late waypoint leaves the route again.
    store_batch(engine, [accepted(trip, 100, uuid4())])
    assert types(engine, trip) == ["started", "completed"]


def abandon(engine: sa.Engine, trip: Trip, second: float) -> None:
    store_batch(engine, [BookingEvent(trip.booking_id, "abandoned", trip.at(second))])


def cancel(engine: sa.Engine, trip: Trip, second: float) -> None:
    store_batch(engine, [BookingEvent(trip.booking_id, "cancelled", trip.at(second))])


def test_a_delivery_after_the_trip_was_given_up_is_a_correction(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0)])
    abandon(engine, trip, 500)
    store_batch(engine, [delivered(trip, 60)])
    assert types(engine, trip) == ["started", "completed", "corrected"]
    _, completed, corrected = written(engine, trip)
    assert corrected["previous_completed_at"] == completed["completed_at"]
    assert corrected["completed_at"] < completed["completed_at"]


def test_an_earlier_delivery_that_comes_later_is_a_correction(engine: sa.Engine) -> None:
    trip = finished(engine, 90)
    store_batch(engine, [delivered(trip, 40)])
    assert types(engine, trip) == ["started", "completed", "corrected"]


def test_a_trip_that_was_active_again_is_completed_again(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0)])
    abandon(engine, trip, 500)
    store_batch(engine, [accepted(trip, 600), update(trip, 601)])
    store_batch(engine, [delivered(trip, 700)])
    assert types(engine, trip) == ["started", "completed", "completed"]
    _, first, second = written(engine, trip)
    assert first["id"] != second["id"]
    assert first["completed_at"] < second["completed_at"]


def test_a_completed_trip_that_is_cancelled_and_delivered_is_corrected_once(
    engine: sa.Engine,
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0)])
    abandon(engine, trip, 500)
    cancel(engine, trip, 600)
    assert types(engine, trip) == ["started", "completed"]
    store_batch(engine, [delivered(trip, 700)])
    assert types(engine, trip) == ["started", "completed", "corrected"]


def test_the_oldest_event_may_be_a_position(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.execute("TRUNCATE outbox, published_watermarks")
    assert outbox.oldest(engine) is None
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    first = outbox.oldest(engine)
    assert first is not None
    store_batch(engine, [update(trip, 1)])
    assert outbox.oldest(engine) == first
    outbox.delete_events(engine, [row.id for row in take(engine, trip)])
    oldest = outbox.oldest(engine)
    assert oldest is not None
    assert oldest > first
    # What remains of a track is not older than what went out of it.
    received = oldest + timedelta(microseconds=1)
    track_id = str(track_of(engine, trip).id)
    watermarks.advance(engine, {track_id: Published(0, None, received)})
    assert outbox.oldest(engine) == received


IDLE = """
    INSERT INTO bookings (booking_id) SELECT gen_random_uuid() FROM generate_series(1, 100000);
    INSERT INTO tracks (id, booking_id, epoch, runner_id, status, phase, started_at, head_seq)
        SELECT gen_random_uuid(), booking_id, '', booking_id, 'active', 'to_pickup', now(), 7
        FROM bookings b WHERE NOT EXISTS (SELECT FROM tracks t WHERE t.booking_id = b.booking_id);
    INSERT INTO published_watermarks (track_id, published_seq)
        SELECT id, 7 FROM tracks ON CONFLICT DO NOTHING;
    ANALYZE tracks, published_watermarks, outbox, bookings;
"""


def test_a_hundred_thousand_idle_tracks_are_not_looked_at(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.execute(IDLE)
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 1)])
    with transaction(engine) as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {watermarks.UNSENT_TRACKS}", (5_000,))
        ((plan,),) = cursor.fetchall()
    scans = list(_scans(plan[0]["Plan"]))
    assert any(name == "published_watermarks" for name, _ in scans), json.dumps(plan)
    assert all(rows < 100 for _, rows in scans), json.dumps(plan)


def _scans(node: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Each table and the rows that were read of it."""
    if "Relation Name" in node:
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        yield node["Relation Name"], rows * node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from _scans(child)


def test_ids_are_those_of_the_content(engine: sa.Engine) -> None:
    """Restored from a backup and replayed, the same event has the same id."""
    trip = finished(engine)
    first = {event["type"]: UUID(event["id"]) for event in written(engine, trip)}
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM outbox WHERE booking_id = %s", (trip.booking_id,))
        cursor.execute("UPDATE tracks SET announced_id = NULL WHERE booking_id = %s",
                       (trip.booking_id,))  # fmt: skip
    store_batch(engine, [], adopt=[trip.booking_id])
    (again,) = written(engine, trip)
    assert UUID(again["id"]) == first[again["type"]]
