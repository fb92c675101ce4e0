"""tracking.store.read.live on a real PostGIS: what a viewer is told who joins or comes back."""

from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from tests.running import Trip
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.store import partitions
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.bookings import ensure_bookings
from tracking.store.read.live import (
    RECENT_MOVES,
    count_rows,
    live_state,
    missed_page,
    recent_moves,
)
from tracking.store.read.routes import RouteSlice, page, spans_half_the_globe
from tracking.store.read.tracks import last_position
from tracking.store.statements import transaction


def test_a_booking_that_nothing_is_known_of_has_no_state(engine: sa.Engine) -> None:
    assert live_state(engine, uuid4()) is None


def test_a_booking_without_a_track_is_only_requested(engine: sa.Engine) -> None:
    booking_id = uuid4()
    ensure_bookings(engine, {booking_id})
    state = live_state(engine, booking_id)
    assert state is not None
    assert (state.status, state.track_id, state.head_seq, state.last) == (
        "requested",
        None,
        0,
        None,
    )


def test_the_last_position_is_the_newest_not_the_one_stored_last(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 5)])
    store_batch(engine, [update(trip, 2)])
    state = live_state(engine, trip.booking_id)
    assert state is not None
    assert (state.status, state.head_seq, state.runner_id) == ("active", 2, trip.runner_id)
    assert state.last is not None
    assert (state.last.seq, state.last.recorded_at) == (1, trip.at(5))


def test_missed_rows_come_in_order_of_seq_without_those_that_left_the_route(
    engine: sa.Engine,
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), *(update(trip, n) for n in (1, 2, 3, 500))])
    store_batch(engine, [delivered(trip, 60)])  # what was recorded long after it leaves
    track = track_of(engine, trip)
    assert [row.seq for row in missed_page(engine, track.id, 1, 4)] == [2, 3]
    assert [row.seq for row in missed_page(engine, track.id, 0, 2)] == [1, 2]
    # ... but is counted: a seq without a row would mean that months were dropped.
    assert count_rows(engine, track.id, 0, 4) == 4


def test_tracks_that_moved_lately_are_found_without_going_through_all(engine: sa.Engine) -> None:
    active, ended = Trip(), Trip()
    for trip in (active, ended):
        store_batch(engine, [accepted(trip), update(trip, 1)])
    store_batch(engine, [delivered(ended, 60)])
    moves = {move.booking_id: move.move for move in recent_moves(engine, 60)}
    for trip in (active, ended):
        assert moves[trip.booking_id] is not None
    assert active.booking_id not in {move.booking_id for move in recent_moves(engine, 0)}
    with transaction(engine) as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + RECENT_MOVES, (60,))
        plan = str(cursor.fetchall())
    assert "tracks_active" in plan
    assert "tracks_metadata_waiting" in plan


def test_partitions_in_which_a_trip_has_nothing_are_left_alone(own_engine: sa.Engine) -> None:
    """Whoever plans for a partition locks it."""
    trip = Trip()
    store_batch(own_engine, [accepted(trip), *(update(trip, n) for n in range(3))])
    track = track_of(own_engine, trip)
    with transaction(own_engine) as cursor:
        partitions.ensure(cursor, [datetime(2001, 5, 1, tzinfo=UTC)])
    with transaction(own_engine) as cursor:
        cursor.execute("LOCK TABLE waypoints_y2001m05 IN ACCESS EXCLUSIVE MODE")
        state = live_state(own_engine, trip.booking_id)
        assert state is not None
        assert state.last == last_position(own_engine, trip.booking_id)
        assert state.last is not None
        assert state.last.recorded_at == trip.at(2)
        assert [row.seq for row in missed_page(own_engine, track.id, 0, 3)] == [1, 2, 3]
        whole = RouteSlice(track.id, 0, 3)
        assert [row.seq for row in page(own_engine, whole, None)] == [1, 2, 3]
        assert not spans_half_the_globe(own_engine, whole)


def test_a_trip_without_a_waypoint_has_no_rows(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    track = track_of(engine, trip)
    assert missed_page(engine, track.id, 0, 0) == []
    assert page(engine, RouteSlice(track.id, 0, 0), None) == []
    assert not spans_half_the_globe(engine, RouteSlice(track.id, 0, 0))
    assert last_position(engine, trip.booking_id) is None
