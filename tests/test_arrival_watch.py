"""workers.arrival_watch: what finished ways say is kept once, and whether ETAs came true counts."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from tests.databases import own_database
from tests.running import Trip
from tests.simulated import Spot
from tests.test_arriving import (
    END_S,
    LEAVE_S,
    PICKUP,
    WAIT_S,
    a_trip,
    accepted,
    moved_to,
    picked_up,
    place,
    spot_at,
)
from tests.test_store_ingest import delivered, track_of
from tracking.domain.arrivals import Way
from tracking.domain.changes import BookingChanges
from tracking.domain.eta import SAMPLES, Sample
from tracking.domain.hops import Recorded
from tracking.domain.routed import Answer
from tracking.domain.trip_eta import Samples
from tracking.domain.verdicts import Rule
from tracking.metrics import Metrics
from tracking.store.answers import keep_answers
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import looking
from tracking.store.maintenance.arriving import Settled
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.read.samples import ends_of, read_samples
from tracking.store.statements import transaction
from workers import arrival_watch
from workers.arrival_watch import ArrivalWatch


@pytest.fixture
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    with own_database(environ) as engine:
        yield engine


def finished(engine: sa.Engine) -> Trip:
    trip = a_trip(30)
    store_batch(engine, [*accepted(trip), *[moved_to(trip, s) for s in range(0, END_S, 5)],
                         picked_up(trip, LEAVE_S), delivered(trip, END_S)])  # fmt: skip
    return trip


def stored(engine: sa.Engine) -> list[tuple[object, ...]]:
    with transaction(engine) as cursor:
        cursor.execute("SELECT phase, band, round(metres), seconds FROM eta_samples ORDER BY id")
        return cursor.fetchall()


def test_a_trip_counts_once_however_often_it_is_settled(engine: sa.Engine) -> None:
    trip, watch = finished(engine), ArrivalWatch(engine, Metrics(), Rule())
    track_id = track_of(engine, trip).id
    update_metadata(engine, track_id, Rule(), watch.settled)
    before = stored(engine)
    # From 2 km, at ten metres a second, and then at 7.5.
    assert before[0][:2] == ("to_pickup", 4)
    assert {row[0] for row in before} == {"to_pickup", "to_dropoff"}
    assert [change.booking_id for change in watch.take()] == [trip.booking_id]
    assert watch.take() == []
    store_batch(engine, [moved_to(trip, END_S + 5)])
    update_metadata(engine, track_id, Rule(), watch.settled)
    assert stored(engine) == before


def test_what_is_taken_while_it_looks_is_neither_told_twice_nor_lost(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The IOLoop takes while the executor looks: both at once, as threads meet once in a while."""
    watch = ArrivalWatch(engine, Metrics(), Rule())
    changes = [BookingChanges(uuid4(), []) for _ in range(3)]
    taken = []

    def meanwhile(*_: object) -> list[BookingChanges]:
        watch.settled(Settled(1, changes[:1]))
        taken.extend(watch.take())
        watch.settled(Settled(1, changes[1:2]))
        return changes[2:]

    monkeypatch.setattr(arrival_watch, "note_arrivals", meanwhile)
    watch.look()
    assert [*taken, *watch.take()] == changes


def test_a_track_that_fails_is_counted_each_time_and_logged_once(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    watch, trip = ArrivalWatch(engine, metrics, Rule()), a_trip(10)
    store_batch(engine, [*accepted(trip), *[moved_to(trip, s) for s in range(0, 200, 5)]])
    monkeypatch.setattr(looking, "POSTPONED_S", 0.0)
    monkeypatch.setattr(arrival_watch, "is_soon", lambda *_: 1 / 0)
    for _ in range(3):
        watch.look()
    errors = metrics.registry.get_sample_value(
        "tracking_maintenance_errors_total", {"task": "arrivals"}
    )
    assert errors == 3
    (record,) = [each for each in caplog.records if each.name == "tracking.arrivals"]
    assert str(track_of(engine, trip).id) in record.getMessage()
    assert watch.take() == []


def test_only_the_newest_of_a_phase_and_band_are_kept(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.execute(
            "INSERT INTO eta_samples (phase, band, metres, seconds, day)"
            " SELECT 'to_pickup', 0, 100, n, '2026-01-01' FROM generate_series(1, %s) n",
            (SAMPLES,),
        )
    trip = finished(engine)
    update_metadata(engine, track_of(engine, trip).id)
    rows = [row for row in stored(engine) if row[:2] == ("to_pickup", 0)]
    assert len(rows) == SAMPLES
    assert rows[0][3] == 2  # the first one went


def test_arrivals_are_counted_by_whether_their_band_held(engine: sa.Engine) -> None:
    """40 ways at 0.1 s a metre, as this one takes; and for the other phase at half the speed."""
    with transaction(engine) as cursor:
        for phase, ratio in (("to_pickup", 0.1), ("to_dropoff", 1.0)):
            cursor.execute(
                "INSERT INTO eta_samples (phase, band, metres, seconds, day)"
                " SELECT %s, band, 100, 100 * %s * (0.8 + n / 100.0), '2026-01-01'"
                " FROM generate_series(1, 40) n, generate_series(0, 6) band",
                (phase, ratio),
            )
    # As stored, metres tell the band when they are read.
    with transaction(engine) as cursor:
        cursor.execute("UPDATE eta_samples SET metres = m.m, seconds = seconds * m.m / 100 FROM"
                       " (VALUES (0,100),(1,300),(2,600),(3,1500),(4,3000),(5,5000),(6,9000))"
                       " m (band, m) WHERE m.band = eta_samples.band")  # fmt: skip
    metrics = Metrics()
    watch = ArrivalWatch(engine, metrics, Rule())
    watch.look()
    trip = finished(engine)
    update_metadata(engine, track_of(engine, trip).id, Rule(), watch.settled)

    def counted(phase: str, covered: str) -> float:
        labels = {"phase": phase, "covered": covered, "method": "distance"}
        return metrics.registry.get_sample_value("tracking_eta_covered_total", labels) or 0

    # Within 250 m it takes less for each metre: the visit begins 60 m before the point.
    assert counted("to_pickup", "true") == 4
    assert counted("to_pickup", "false") == 1
    assert counted("to_dropoff", "false") > 0
    assert counted("to_dropoff", "true") == 0


def asked(
    engine: sa.Engine, trip: Trip, seq: int, spot: Spot, place_off_m: float = 0.0
) -> tuple[UUID, Answer]:
    """A router was asked there, and said that it takes half a minute."""
    way = Way("pickup", *place(Spot(PICKUP.x + place_off_m, 0)), 0.0)
    return track_of(engine, trip).id, Answer(way, Recorded(seq, 0.0, *place(spot)), 30.0)


def answers(engine: sa.Engine) -> list[tuple[object, ...]]:
    with transaction(engine) as cursor:
        cursor.execute("SELECT band, seq FROM eta_answers ORDER BY band")
        return cursor.fetchall()


def test_what_a_router_said_is_kept_beside_what_it_took(engine: sa.Engine) -> None:
    trip = a_trip(30)
    drive = [moved_to(trip, s) for s in range(0, LEAVE_S, 5)]
    store_batch(engine, [*accepted(trip), *drive])
    keep_answers(engine, [
        asked(engine, trip, 20, spot_at(95)), asked(engine, trip, 20, spot_at(95)),
        asked(engine, trip, 30, spot_at(145), 5.0),  # the place was corrected later
        asked(engine, trip, 999, spot_at(170)),  # it has left the route
    ])  # fmt: skip
    keep_answers(engine, [asked(engine, trip, 21, spot_at(95))])  # by another process
    assert answers(engine) == [(1, 999), (2, 30), (3, 20)]
    driven = [moved_to(trip, s) for s in range(LEAVE_S, END_S, 5)]
    store_batch(engine, [picked_up(trip, LEAVE_S), *driven, delivered(trip, END_S)])
    watch = ArrivalWatch(engine, Metrics(), Rule())
    update_metadata(engine, track_of(engine, trip).id, Rule(), watch.settled)
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT phase, band, router_seconds, router_took_seconds FROM eta_samples"
            " WHERE router_seconds IS NOT NULL OR router_took_seconds IS NOT NULL"
        )
        assert cursor.fetchall() == [("to_pickup", 3, 30.0, WAIT_S - 5 - 95)]
    history = read_samples(engine, Samples()).history
    assert list(history.ratios("to_pickup", 3, "router")) == [pytest.approx(100 / 30)]
    keep_answers(engine, [asked(engine, trip, 20, spot_at(95))])  # it comes too late
    assert answers(engine) == []


def test_who_watched_a_routers_eta_counts_as_such(engine: sa.Engine) -> None:
    """40 ways for which it said a third of what they took, as of this one."""
    with transaction(engine) as cursor:
        cursor.execute(
            "INSERT INTO eta_samples (phase, band, metres, seconds, day, router_seconds,"
            " router_took_seconds) SELECT 'to_pickup', 3, 1500, 150, '2026-01-01', 30,"
            " 100 * (0.8 + n / 100.0) FROM generate_series(1, 40) n"
        )
    metrics = Metrics()
    watch = ArrivalWatch(engine, metrics, Rule())
    watch.look()
    sample = Sample("to_pickup", 1500.0, 999.0, 30.0, 100.0)
    watch.settled(Settled(1, [], [sample, sample._replace(router_took_s=140.0)]))
    watch.settled(Settled(1, [], [sample._replace(router_s=None, router_took_s=None)]))
    counted = {
        (each.labels["method"], each.labels["covered"]): each.value
        for metric in metrics.registry.collect() if metric.name == "tracking_eta_covered"
        for each in metric.samples
        if each.name.endswith("_total") and each.labels["phase"] == "to_pickup"
    }  # fmt: skip
    assert counted == {("router", "true"): 1, ("router", "false"): 1,
                       ("distance", "false"): 1, ("distance", "true"): 0}  # fmt: skip


def test_the_history_is_read_again_when_it_has_grown(engine: sa.Engine) -> None:
    nothing = read_samples(engine, Samples())
    assert (nothing.newest, nothing.count) == (0, 0)
    trip = finished(engine)
    update_metadata(engine, track_of(engine, trip).id)
    read = read_samples(engine, nothing)
    assert read.count == len(stored(engine))
    assert read_samples(engine, read) is read
    assert len(read.history.ratios("to_pickup", 0)) == 1
    ends = ends_of(engine, [trip.booking_id])[trip.booking_id]
    assert ends.pickup is not None
    assert ends.dropoff is not None
