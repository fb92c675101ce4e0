"""tracking.store.ingest.outcomes: whose reports were heard although no marker moved."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from tests.running import Trip
from tests.test_store_ingest import accepted, delivered, seconds, track_of, update
from tracking.domain.changes import Heard
from tracking.domain.events import Event
from tracking.store.ingest.batch import store_batch


def heard(engine: sa.Engine, *events: Event) -> list[Heard]:
    stored = store_batch(engine, events)
    return [e for b in stored.bookings for e in b.entries if isinstance(e, Heard)]


def told(trip: Trip, found: Iterable[Heard]) -> list[tuple[Any, ...]]:
    return [
        (h.booking_id == trip.booking_id, (h.received_at - trip.start).total_seconds(), h.why)
        for h in found
    ]


def test_a_report_that_moves_the_marker_is_not_told_as_heard(engine: sa.Engine) -> None:
    trip = Trip()
    assert heard(engine, accepted(trip), update(trip, 10), update(trip, 20)) == []


def test_late_reports_are_heard_the_newest_of_a_batch(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 100)])
    late = [update(trip, s, received_at=trip.at(200 + s)) for s in (10, 30, 20)]
    assert told(trip, heard(engine, *late)) == [(True, 230.0, "late")]
    # The marker moved later than that: there is nothing to tell.
    assert heard(engine, update(trip, 40, received_at=trip.at(299)), update(trip, 300)) == []


def test_a_parked_report_is_heard_before_and_after_its_booking_is_accepted(
    engine: sa.Engine,
) -> None:
    trip = Trip()
    assert told(trip, heard(engine, update(trip, 10))) == [(True, 10.0, "parked")]
    store_batch(engine, [accepted(trip)])
    other_runner = update(trip, 20, runner_id=Trip().runner_id)
    assert told(trip, heard(engine, other_runner)) == [(True, 20.0, "parked")]


def test_refused_and_repeated_reports_are_heard(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 10), delivered(trip, 20)])
    assert told(trip, heard(engine, update(trip, 90))) == [(True, 90.0, "refused")]
    again = update(trip, 10, received_at=trip.at(95))
    assert told(trip, heard(engine, again)) == [(True, 95.0, "duplicate")]
    assert store_batch(engine, [update(trip, 91)]).refusals == {"after_end": 1}


def test_an_old_report_without_booking_id_is_heard_of_its_runners_trip(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 100)])
    again = update(trip, 100, booking_id=None, received_at=trip.at(130))
    assert told(trip, heard(engine, again)) == [(True, 130.0, "duplicate")]


def test_a_report_without_booking_id_is_not_heard_of_a_trip_that_is_over_or_anothers(
    engine: sa.Engine,
) -> None:
    over, given_away = Trip(), Trip()
    for trip in (over, given_away):
        store_batch(engine, [accepted(trip), update(trip, 100)])
    store_batch(engine, [delivered(over, 110), accepted(given_away, 110, Trip().runner_id)])
    for trip in (over, given_away):
        again = update(trip, 100, booking_id=None, received_at=trip.at(130))
        assert heard(engine, again) == []


def test_exactly_zero_zero_is_no_fix_and_refused(engine: sa.Engine) -> None:
    trip = Trip()
    nowhere = {"longitude": 0.0, "latitude": 0.0}
    batch: list[Event] = [accepted(trip), update(trip, 10), update(trip, 30)]
    batch.append(update(trip, 20, **nowhere))
    stored = store_batch(engine, batch)
    assert stored.update_outcomes == {"applied": 2, "refused": 1}
    assert stored.refusals == {"no_fix": 1}
    assert seconds(engine, trip) == [10.0, 30.0]
    assert track_of(engine, trip).distance_mm < 1_000_000
    on_a_line = [update(trip, 40, longitude=0.0), update(trip, 50, latitude=0.0)]
    beside = store_batch(engine, [*on_a_line, update(trip, 60, **nowhere)])
    assert beside.update_outcomes == {"applied": 2, "refused": 1}
    assert seconds(engine, trip) == [10.0, 30.0, 40.0, 50.0]


def test_a_report_without_fix_is_heard(engine: sa.Engine) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 10)])
    nowhere = update(trip, 20, longitude=0.0, latitude=0.0)
    assert told(trip, heard(engine, nowhere)) == [(True, 20.0, "refused")]
