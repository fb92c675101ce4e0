"""tracking.store.ingest.batch on a real PostGIS: whatever the order, the same rows."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.running import Trip
from tracking.domain.events import BookingEvent, Event, LocationUpdate
from tracking.domain.tracks import TrackView
from tracking.store.ingest import parking
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.bookings import BOOKINGS_OF_RUNNERS
from tracking.store.maintenance.abandoned import abandoned_bookings
from tracking.store.read.routes import RouteSlice, page
from tracking.store.read.tracks import find_track, last_position
from tracking.store.sql import interval
from tracking.store.statements import transaction


def accepted(trip: Trip, second: float = 0, runner_id: UUID | None = None) -> BookingEvent:
    runner = runner_id or trip.runner_id
    return BookingEvent(trip.booking_id, "accepted", trip.at(second), runner, trip.owner_id, "BK-1")


def delivered(trip: Trip, second: float) -> BookingEvent:
    return BookingEvent(trip.booking_id, "delivered", trip.at(second), trip.runner_id)


def update(trip: Trip, second: float, **changes: Any) -> LocationUpdate:
    at = trip.at(second)
    fields: dict[str, Any] = {
        "runner_id": trip.runner_id,
        "booking_id": trip.booking_id,
        "longitude": 106.8 + second * 1e-4,
        "latitude": -6.2 + (second % 7) * 1e-4,
        "speed_kmh": 30.0,
        "heading_degrees": None,
        "recorded_at": at,
        "reported_at": at,
        "received_at": at,
    }
    return LocationUpdate(**{**fields, **changes})


def track_of(engine: sa.Engine, trip: Trip) -> TrackView:
    track = find_track(engine, trip.booking_id)
    assert track is not None
    return track


def waypoints(engine: sa.Engine, trip: Trip) -> list[tuple[int, float]]:
    """(seq, second of the trip) in route order."""
    track = track_of(engine, trip)
    rows = page(engine, RouteSlice(track.id, 0, track.head_seq), None)
    return [(row.seq, (row.recorded_at - trip.start).total_seconds()) for row in rows]


def seconds(engine: sa.Engine, trip: Trip) -> list[float]:
    return [second for _, second in waypoints(engine, trip)]


def postgis_distance_m(engine: sa.Engine, trip: Trip) -> float:
    """The same route, measured by PostGIS on its spheroid."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT ST_Length(ST_MakeLine(position ORDER BY recorded_at, runner_id, reported_at)"
            "::geography) FROM waypoints WHERE in_route AND track_id = %s",
            (track_of(engine, trip).id,),
        )
        (metres,) = cursor.fetchone() or (0,)
        return float(metres)


def one_by_one(engine: sa.Engine, events: Sequence[Event]) -> None:
    for event in events:
        store_batch(engine, [event])


def test_an_acceptance_and_an_update_in_one_batch_whatever_comes_first(engine: sa.Engine) -> None:
    trip = Trip()
    stored = store_batch(engine, [update(trip, 1), accepted(trip)])
    assert [w.seq for w in stored.waypoints] == [1]
    assert stored.update_outcomes == {"applied": 1}
    assert stored.fact_outcomes == {("accepted", "applied"): 1}
    assert [(c.old_status, c.status) for c in stored.changes] == [(None, "active")]


def test_redelivery_changes_no_row(engine: sa.Engine) -> None:
    trip = Trip()
    events: list[Event] = [
        accepted(trip), update(trip, 1), update(trip, 2), delivered(trip, 3),
    ]  # fmt: skip
    store_batch(engine, events)
    before = track_of(engine, trip)
    for again in (events, events[::-1], events[1:2] * 3):
        stored = store_batch(engine, again)
        assert stored.waypoints == []
        assert stored.changes == []
        assert set(stored.update_outcomes) == {"duplicate"}
        assert {outcome for _, outcome in stored.fact_outcomes} <= {"duplicate"}
    assert track_of(engine, trip) == before


def test_a_duplicate_within_one_batch_is_stored_once(engine: sa.Engine) -> None:
    trip = Trip()
    stored = store_batch(engine, [accepted(trip), *[update(trip, 5)] * 3, update(trip, 4)])
    assert stored.update_outcomes == {"applied": 2, "duplicate": 2}
    assert [(w.seq, w.late) for w in stored.waypoints] == [(1, False), (2, False)]
    assert waypoints(engine, trip) == [(1, 4), (2, 5)]


def test_a_late_waypoint_lands_where_it_belongs(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 10), update(trip, 30)])
    stored = store_batch(engine, [update(trip, 20), update(trip, 40), update(trip, 25)])
    assert [(w.seq, w.late) for w in stored.waypoints] == [(3, False), (4, True), (5, True)]
    assert waypoints(engine, trip) == [(1, 10), (4, 20), (5, 25), (2, 30), (3, 40)]
    head = last_position(engine, trip.booking_id)
    assert head is not None
    assert (head.seq, head.recorded_at) == (3, trip.at(40))


@pytest.mark.parametrize("seed", range(8))
def test_any_order_and_any_cut_gives_the_same_trip(engine: sa.Engine, seed: int) -> None:
    """Shuffled, repeated, split at random: as if once and in order."""
    choice = random.Random(seed)
    start = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)  # across a day and a month
    reference, shuffled = Trip(start), Trip(start)
    shuffled.runner_id = reference.runner_id
    other_runner = uuid4()
    for trip, mixed in ((reference, False), (shuffled, True)):
        events: list[Event] = [
            accepted(trip),
            *(update(trip, second) for second in range(0, 60, 3)),
            accepted(trip, 150, other_runner),
            *(update(trip, second, runner_id=other_runner) for second in range(150, 240, 5)),
            delivered(trip, 240),
        ]
        if mixed:
            events = events + choice.choices(events, k=20)
            choice.shuffle(events)
            while events:
                size = choice.randint(1, 12)
                store_batch(engine, events[:size])
                del events[:size]
        else:
            one_by_one(engine, events)
    expected, found = track_of(engine, reference), track_of(engine, shuffled)
    assert seconds(engine, shuffled) == seconds(engine, reference)
    same = ("status", "phase", "runner_id", "completed_at", "distance_mm", "waypoint_count",
            "last_recorded_at")  # fmt: skip
    assert [getattr(found, name) for name in same] == [getattr(expected, name) for name in same]


def test_the_distance_is_what_postgis_measures_at_every_moment(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    order = [50, 10, 30, 20, 70, 60, 11, 12, 90, 5]
    for second in order:
        store_batch(engine, [update(trip, second)])
        measured = track_of(engine, trip).distance_mm / 1000
        assert measured == pytest.approx(postgis_distance_m(engine, trip), abs=0.001 * len(order))


def test_an_update_before_its_acceptance_waits_and_is_adopted(engine: sa.Engine) -> None:
    trip = Trip()
    early = [update(trip, 3), update(trip, 1)]
    assert store_batch(engine, early).update_outcomes == {"parked": 2}
    assert store_batch(engine, early).update_outcomes == {"duplicate": 2}
    stored = store_batch(engine, [accepted(trip)])
    assert stored.adopted == 2
    assert seconds(engine, trip) == [1, 3]
    assert store_batch(engine, early).update_outcomes == {"duplicate": 2}


def test_an_update_without_booking_belongs_to_every_trip_of_its_time(engine: sa.Engine) -> None:
    runner_id = uuid4()
    first, second, late = Trip(), Trip(), Trip()
    for trip in (first, second, late):
        trip.runner_id, trip.start = runner_id, first.start
    store_batch(engine, [accepted(first), accepted(second, 100)])
    unknown = [update(first, at, booking_id=None) for at in (10, 200)]
    assert store_batch(engine, unknown).update_outcomes == {"applied": 2}
    assert seconds(engine, first) == [10, 200]
    assert seconds(engine, second) == [200]
    store_batch(engine, [accepted(late, 5)])  # told of late, but it covers both
    assert seconds(engine, late) == [10, 200]
    assert store_batch(engine, unknown).update_outcomes == {"duplicate": 2}


def test_nobody_watches_a_runner_after_the_delivery(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 10), update(trip, 500)])
    store_batch(engine, [delivered(trip, 100)])
    assert seconds(engine, trip) == [10]
    track = track_of(engine, trip)
    assert (track.waypoint_count, track.head_seq, track.distance_mm) == (1, 2, 0)
    assert track.last_recorded_at == trip.at(10)
    afterwards = store_batch(engine, [update(trip, 161), update(trip, 500), update(trip, 159)])
    assert afterwards.update_outcomes == {"refused": 1, "duplicate": 1, "applied": 1}


def test_the_marker_does_not_go_back_when_the_newest_waypoint_left_the_route(
    engine: sa.Engine,
) -> None:
    trip, new_runner = Trip(), uuid4()
    store_batch(engine, [accepted(trip), update(trip, 500)])
    replaced: list[Event] = [
        accepted(trip, 100, new_runner),
        update(trip, 200, runner_id=new_runner),
    ]
    assert [w.late for w in store_batch(engine, replaced).waypoints] == [True]
    later = [update(trip, at, runner_id=new_runner) for at in (499, 500, 501)]
    assert [w.late for w in store_batch(engine, later).waypoints] == [True, False, False]
    assert seconds(engine, trip) == [200, 499, 500, 501]
    assert track_of(engine, trip).last_recorded_at == trip.at(501)


def test_another_acceptance_changes_the_runner(engine: sa.Engine) -> None:
    trip, new_runner = Trip(), uuid4()
    store_batch(engine, [accepted(trip), update(trip, 10)])
    stored = store_batch(engine, [accepted(trip, 100, new_runner)])
    assert [(c.old_runner_id, c.runner_id) for c in stored.changes] == [
        (trip.runner_id, new_runner)
    ]
    outcomes = store_batch(
        engine, [update(trip, 200), update(trip, 200, runner_id=new_runner)]
    ).update_outcomes
    assert outcomes == {"parked": 1, "applied": 1}
    assert seconds(engine, trip) == [10, 200]


def test_a_stranger_cannot_add_to_a_booking(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    stored = store_batch(engine, [update(trip, 1, runner_id=uuid4())])
    assert stored.update_outcomes == {"parked": 1}
    assert waypoints(engine, trip) == []


HERE = {"longitude": 106.8, "latitude": -6.2}


def test_a_report_counts_at_the_earliest_time_of_its_copies(engine: sa.Engine) -> None:
    trip = Trip()
    ahead = {**HERE, "reported_at": trip.at(1_000_000)}
    store_batch(engine, [accepted(trip), update(trip, 10, **ahead)])
    for second, expected in ((12, 10), (8, 8), (1_000_000, 8)):
        again = store_batch(engine, [update(trip, second, **ahead)])
        assert again.update_outcomes == {"duplicate": 1}
        assert seconds(engine, trip) == [expected]
    uncovered = store_batch(engine, [update(trip, -61, **ahead)])
    assert uncovered.update_outcomes == {"duplicate": 1}
    assert seconds(engine, trip) == [8]


def test_the_marker_stays_where_a_copy_moved_its_waypoint_from(engine: sa.Engine) -> None:
    trip = Trip()
    late_copy = {**HERE, "reported_at": trip.at(100)}
    store_batch(engine, [accepted(trip), update(trip, 100, **HERE)])
    store_batch(engine, [update(trip, 10, **late_copy)])
    assert seconds(engine, trip) == [10]
    (between,) = store_batch(engine, [update(trip, 50)]).waypoints
    assert between.late
    (newer,) = store_batch(engine, [update(trip, 101)]).waypoints
    assert not newer.late


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0)])
def test_two_positions_of_one_instant_are_both_kept(
    engine: sa.Engine, order: tuple[int, ...]
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    reports = [
        update(trip, 10, longitude=106.8, latitude=-6.2),
        update(trip, 20, longitude=106.801, latitude=-6.2),
        update(trip, 20, longitude=106.8015, latitude=-6.2),
    ]
    for index in order:
        store_batch(engine, [reports[index]])
    track = track_of(engine, trip)
    assert (track.head_seq, track.distance_mm) == (3, 166_009)
    rows = page(engine, RouteSlice(track.id, 0, track.head_seq), None)
    assert [row.longitude for row in rows] == [106.8, 106.801, 106.8015]
    assert [r.longitude for r in page(engine, RouteSlice(track.id, 0, 3), rows[1].order)] == [
        106.8015
    ]
    last = last_position(engine, trip.booking_id)
    assert last is not None
    assert last.longitude == 106.8015


def test_a_report_from_before_its_bookings_acceptance_counts_when_it_occurred(
    engine: sa.Engine,
) -> None:
    trip = Trip()
    wrong = [
        update(trip, s, recorded_at=trip.at(s - 3_600), reported_at=trip.at(s - 3_600),
               occurred_at=trip.at(s))
        for s in (10, 15, 20)
    ]  # fmt: skip
    assert store_batch(engine, wrong[:1]).update_outcomes == {"parked": 1}
    stored = store_batch(engine, [accepted(trip), *wrong[1:], *wrong])
    assert stored.adopted == 1
    assert seconds(engine, trip) == [10, 15, 20]
    assert not any(waypoint.late for waypoint in stored.waypoints)
    assert store_batch(engine, wrong).update_outcomes == {"duplicate": 3}
    # Without booking id it may be of another trip; and a buffer from a tunnel is what it is.
    nobodys = update(trip, 25, booking_id=None, recorded_at=trip.at(-3_500),
                     reported_at=trip.at(-3_500), occurred_at=trip.at(25))  # fmt: skip
    assert store_batch(engine, [nobodys]).update_outcomes == {"parked": 1}
    tunnel = update(trip, 5, occurred_at=trip.at(900))
    assert store_batch(engine, [tunnel]).update_outcomes == {"applied": 1}
    assert seconds(engine, trip) == [5, 10, 15, 20]


def test_an_earlier_acceptance_told_late_restores_what_the_phone_said(engine: sa.Engine) -> None:
    trip = Trip()
    early = update(trip, 100, recorded_at=trip.at(-300), reported_at=trip.at(-300),
                   occurred_at=trip.at(100))  # fmt: skip
    store_batch(engine, [accepted(trip), early, update(trip, 50)])
    assert seconds(engine, trip) == [50, 100]
    store_batch(engine, [accepted(trip, -400)])
    assert seconds(engine, trip) == [-300, 50]
    assert store_batch(engine, [early]).update_outcomes == {"duplicate": 1}
    (between,) = store_batch(engine, [update(trip, 90)]).waypoints
    assert between.late  # the marker was at 100


def test_an_acceptance_by_a_clock_ahead_begins_the_trip_when_kafka_got_it(
    engine: sa.Engine,
) -> None:
    trip = Trip()
    ahead = replace(accepted(trip, 300), heard_at=trip.at(0))
    copy = replace(accepted(trip, 300), heard_at=trip.at(200))
    store_batch(engine, [copy, update(trip, 30)])
    assert seconds(engine, trip) == []
    again = store_batch(engine, [ahead])
    assert again.fact_outcomes == {("accepted", "duplicate"): 1}
    assert track_of(engine, trip).started_at == trip.at(60)
    assert seconds(engine, trip) == [30]
    assert not store_batch(engine, [copy, ahead]).bookings


@pytest.mark.parametrize("start", [datetime(2003, 12, 31, 23, 59, 58, tzinfo=UTC),
                                   datetime(2079, 12, 31, 23, 59, 58, tzinfo=UTC)])  # fmt: skip
def test_a_partition_that_nobody_made_is_made(engine: sa.Engine, start: datetime) -> None:
    trip = Trip(start)
    store_batch(engine, [accepted(trip), *(update(trip, second) for second in range(5))])
    assert seconds(engine, trip) == [0, 1, 2, 3, 4]


def test_two_processes_that_missed_each_other_are_found_by_the_sweep(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    with transaction(engine) as cursor:  # as the other process parked it, not seeing our track
        parking.park(cursor, [(update(trip, 7), False)])
    claimed = parking.claimed_bookings(engine)
    assert trip.booking_id in claimed
    stored = store_batch(engine, [], {trip.booking_id})
    assert stored.adopted == 1
    assert seconds(engine, trip) == [7]
    assert trip.booking_id not in parking.claimed_bookings(engine)


def test_an_update_that_another_trip_took_reaches_one_that_was_accepted_meanwhile(
    engine: sa.Engine,
) -> None:
    """Without booking id it belongs to both: two processes stored it, and the acceptance."""
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    with transaction(engine) as cursor:
        parking.park(cursor, [(replace(update(trip, 7), booking_id=None), True)])
    assert trip.booking_id not in parking.accepted_since(engine, None)[0]
    with transaction(engine) as cursor:
        for table, column in (("booking_facts", "stored_at"), ("parked_updates", "parked_at")):
            cursor.execute(
                f"UPDATE {table} SET {column} = {column} - {interval(parking.OVER)}"
                " WHERE runner_id = %s",
                (trip.runner_id,),
            )
    found, until = parking.accepted_since(engine, None)
    assert trip.booking_id in found
    assert store_batch(engine, [], found).bookings
    assert seconds(engine, trip) == [7]
    assert trip.booking_id not in parking.accepted_since(engine, until)[0]


def test_what_nobody_adopts_is_refused_after_a_day(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [update(trip, 1)])
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE parked_updates SET parked_at = now() - interval '25 hours'"
            " WHERE booking_id = %s",
            (trip.booking_id,),
        )
    assert parking.expire(engine) >= 1
    assert store_batch(engine, [accepted(trip)]).adopted == 0


def test_a_trip_that_nobody_ends_is_abandoned_after_a_day(engine: sa.Engine) -> None:
    trip, alive = Trip(), Trip()
    store_batch(engine, [accepted(trip), update(trip, 5), accepted(alive)])
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE tracks SET updated_at = now() - interval '25 hours' WHERE booking_id = %s",
            (trip.booking_id,),
        )
    found = dict(abandoned_bookings(engine))
    assert trip.booking_id in found
    assert alive.booking_id not in found
    store_batch(engine, [BookingEvent(trip.booking_id, "abandoned", found[trip.booking_id])])
    track = track_of(engine, trip)
    assert (track.status, track.phase) == ("completed", "done")
    assert store_batch(engine, [update(trip, 6)]).update_outcomes == {"applied": 1}


def test_a_backlog_of_many_trips_in_one_batch(engine: sa.Engine) -> None:
    trips = [Trip() for _ in range(50)]
    events: list[Event] = [accepted(trip) for trip in trips]
    events += [update(trip, second) for second in range(20) for trip in trips]
    stored = store_batch(engine, events)
    assert stored.update_outcomes == {"applied": 1000}
    for trip in trips[::10]:
        assert waypoints(engine, trip) == [(second + 1, second) for second in range(20)]


def test_ends_at_the_minute_of_grace(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), delivered(trip, 100)])
    edge = [update(trip, -60), update(trip, 160)]
    beyond = [update(trip, -60.001), update(trip, 160.001)]
    assert store_batch(engine, edge).update_outcomes == {"applied": 2}
    assert store_batch(engine, beyond).update_outcomes == {"parked": 1, "refused": 1}
    assert timedelta(seconds=60) == trip.at(160) - trip.at(100)


def test_nothing_is_refused_that_a_fact_told_of_later_brings_into_the_route(
    engine: sa.Engine,
) -> None:
    """A second delivery, which occurred before the first one, ends the trip later than that."""
    trip = Trip()
    early = BookingEvent(trip.booking_id, "delivered", trip.at(200), trip.runner_id, at=trip.at(50))
    one_by_one(engine, [accepted(trip), early, update(trip, 120), update(trip, 261)])
    assert seconds(engine, trip) == []
    store_batch(engine, [delivered(trip, 100)])
    assert seconds(engine, trip) == [120]


def test_an_acceptance_between_a_delivery_and_its_known_acceptance_adopts_what_waits(
    engine: sa.Engine,
) -> None:
    trip = Trip()
    one_by_one(engine, [delivered(trip, 0), accepted(trip, 1000), update(trip, 500)])
    assert seconds(engine, trip) == []
    store_batch(engine, [accepted(trip, 500)])
    assert seconds(engine, trip) == [500]


def outbox_types(engine: sa.Engine, trip: Trip) -> list[str]:
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT type FROM outbox WHERE booking_id = %s ORDER BY id", (trip.booking_id,)
        )
        return [type_ for (type_,) in cursor]


@pytest.mark.parametrize("is_over", [False, True])
def test_another_owner_is_told_to_the_rooms_and_to_nobody_else(
    own_engine: sa.Engine, is_over: bool
) -> None:
    engine = own_engine  # a server of other tests would send what is in the outbox
    trip, owner = Trip(), uuid4()
    store_batch(engine, [accepted(trip, 10), *([delivered(trip, 60)] if is_over else [])])
    before = outbox_types(engine, trip)
    earlier = BookingEvent(trip.booking_id, "requested", trip.at(0), owner_id=owner)
    (change,) = store_batch(engine, [earlier]).changes
    assert (change.owner_id, change.is_visible) == (owner, False)
    assert change.old_status == change.status
    assert outbox_types(engine, trip) == before
    assert store_batch(engine, [earlier]).changes == []


def test_the_bookings_of_a_runner_are_found_by_their_index(own_engine: sa.Engine) -> None:
    fleet = [Trip() for _ in range(3_000)]
    store_batch(own_engine, [accepted(trip) for trip in fleet])
    one = fleet[0]
    with transaction(own_engine) as cursor:
        cursor.execute("ANALYZE assignments")
        cursor.execute(
            "EXPLAIN " + BOOKINGS_OF_RUNNERS.replace("VALUES %s", "VALUES (%s, %s, %s)"),
            (one.runner_id, one.at(0), one.at(60)),
        )
        plan = "\n".join(line for (line,) in cursor)
    condition = plan[plan.index("assignments_runner") :]
    assert "Index Cond" in condition
    assert "started_at <=" in condition[condition.index("Index Cond") :].splitlines()[0]
