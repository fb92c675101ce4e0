"""tracking.store.read.points: what the table holds is what the columns say, page by page."""

from datetime import UTC, datetime, timedelta
from math import isnan

import pytest
import sqlalchemy as sa

from tests.running import Trip
from tests.test_store_ingest import accepted, update
from tracking.domain.points import EVERYTHING, PLACE_AND_TIME, Points
from tracking.domain.routes import Order
from tracking.domain.verdicts import Verdict
from tracking.errors import RouteChanged
from tracking.store.ingest.batch import store_batch
from tracking.store.read import points
from tracking.store.read.points import page
from tracking.store.read.routes import RouteSlice
from tracking.store.read.tracks import find_track

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slice_of(engine: sa.Engine, trip: Trip) -> RouteSlice:
    track = find_track(engine, trip.booking_id)
    assert track is not None
    return RouteSlice(track.id, 0, track.head_seq)


def whole(engine: sa.Engine, part: RouteSlice) -> list[Points]:
    found, after = [], None
    while True:
        each = page(engine, part, PLACE_AND_TIME, after)
        found.append(each.points)
        after = each.next_place
        if after is None:
            return found


def test_every_column_is_what_was_stored(engine: sa.Engine) -> None:
    trip = Trip()
    received = trip.at(3) + timedelta(microseconds=7)
    odd = update(
        trip, 1.5, longitude=-179.123456789, latitude=89.9999, speed_kmh=None,
        heading_degrees=12.25, received_at=received,
    )  # fmt: skip
    store_batch(engine, [accepted(trip), update(trip, 0, speed_kmh=36.5), odd])
    found = page(engine, slice_of(engine, trip), EVERYTHING, None)
    assert found.next_place is None
    got = found.points
    assert got.seq.tolist() == [1, 2]
    assert (got.longitude[1], got.latitude[1]) == (-179.123456789, 89.9999)
    times = [EPOCH + timedelta(microseconds=t) for t in got.recorded_at.tolist()]
    assert times == [trip.at(0), trip.at(1.5)]
    assert EPOCH + timedelta(microseconds=int(got.received_at[1])) == received
    assert got.speed_kmh[0] == 36.5
    assert isnan(got.speed_kmh[1])
    assert isnan(got.heading_degrees[0])
    assert got.heading_degrees[1] == 12.25
    assert got.verdict.tolist() == [0, 3]  # nobody gets to the pole so fast


def test_pages_hold_each_row_once_even_where_times_are_the_same(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "FIRST_PAGE", 2)
    monkeypatch.setattr(points, "PAGE", 3)
    trip = Trip()
    same = [update(trip, 5, longitude=106.8 + number * 1e-3) for number in range(7)]
    store_batch(engine, [accepted(trip), *same, update(trip, 9), update(trip, 2)])
    pages = whole(engine, slice_of(engine, trip))
    # Where a page goes on by time it leaves out the rows of its last time, there are 4 and 4 else.
    assert [each.count for each in pages] == [1, 4, 3, 1]
    seqs = [seq for each in pages for seq in each.seq.tolist()]
    assert sorted(seqs) == [*range(1, 10)]
    times = [time for each in pages for time in each.recorded_at.tolist()]
    assert times == sorted(times)


def test_a_page_that_ends_with_the_route_is_the_last(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "FIRST_PAGE", 2)
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 0), update(trip, 1)])
    assert [each.count for each in whole(engine, slice_of(engine, trip))] == [2]


def test_a_verdict_fits_beside_a_seq() -> None:
    assert max(Verdict) < points.VERDICTS


def test_a_place_that_was_erased_is_told(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "FIRST_PAGE", 2)
    trip = Trip()
    store_batch(engine, [accepted(trip), *[update(trip, second) for second in range(4)]])
    part = slice_of(engine, trip)
    found = page(engine, part, PLACE_AND_TIME, None)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor:
            cursor.execute("DELETE FROM waypoints WHERE track_id = %s", (part.track_id,))
            with pytest.raises(RouteChanged):
                points._place(cursor, part, found.points)


def test_a_slice_ends_before_until(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), *[update(trip, second) for second in range(5)]])
    part = slice_of(engine, trip)
    some = RouteSlice(part.track_id, 1, part.head_seq, trip.at(1), trip.at(3))
    last: Order | None = None
    assert page(engine, some, PLACE_AND_TIME, last).points.seq.tolist() == [2, 3]
