"""workers.retention: old routes go, with no lock that anybody feels, and do not come back."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.running import Platform, Server, Trip, fresh_database, running_server, wait_until
from tests.served import API, owner
from tests.test_partitions import names
from tests.test_protocol import Client
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.events import BookingEvent, Event
from tracking.metrics import Metrics
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.maintenance import dropping, expiry
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks
from tracking.store.read.live import count_rows, live_state, missed_page
from tracking.store.read.summaries import settled_summary
from tracking.store.statements import Statements, transaction
from workers.retention import Retention

KEEP = timedelta(days=30)
HOUR = 3600
# A month that goes, whatever today is: all of it is more than 60 days ago.
OLD = (datetime.now(UTC) - timedelta(days=100)).replace(
    day=1, hour=0, minute=0, second=0, microsecond=0
)
NEXT = (OLD + timedelta(days=31)).replace(day=1)
GOES = f"waypoints_y{OLD.year:04}m{OLD.month:02}"


def events(trip: Trip, count: int = 4) -> list[Event]:
    """Asked for, accepted, an update an hour, delivered."""
    requested = BookingEvent(
        trip.booking_id, "requested", trip.at(-60), owner_id=trip.owner_id,
        pickup=(106.81, -6.21), dropoff=(106.82, -6.22),
    )  # fmt: skip
    # Degrees of an hour's drive, so that nothing is flagged.
    updates = [update(trip, n * HOUR, longitude=106.8 + n * 0.1) for n in range(count)]
    return [requested, accepted(trip), *updates, delivered(trip, count * HOUR)]


def over(engine: sa.Engine, start: datetime) -> Trip:
    """A trip that is over, added up, and has gone out."""
    trip = Trip(start)
    store_batch(engine, events(trip))
    update_metadata(engine, track_of(engine, trip).id)
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM published_watermarks")
    return trip


def rows(engine: sa.Engine, statement: str, **values: object) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement), values).mappings())


def waypoints(engine: sa.Engine, trip: Trip) -> int:
    track_id = track_of(engine, trip).id
    return len(rows(engine, "SELECT FROM waypoints WHERE track_id = :id", id=track_id))


def replayed(engine: sa.Engine, trip: Trip, keep: timedelta | None = KEEP) -> Stored:
    return store_batch(engine, events(trip), known=TrackCache(keep=keep))


@pytest.fixture
def work(own_engine: sa.Engine) -> Iterator[Callable[[], Metrics]]:
    """A round of retention, to its end."""
    with ThreadPoolExecutor(1) as executor:

        def work() -> Metrics:
            metrics = Metrics()
            retention = Retention(own_engine, executor, metrics, KEEP)
            retention._work(datetime.now(UTC) - KEEP)
            return metrics

        yield work


def test_whole_trips_go_with_their_month_and_their_summaries_stay(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    inside = over(own_engine, OLD + timedelta(days=3))
    reaching = over(own_engine, NEXT - timedelta(seconds=1.5 * HOUR))
    beside = over(own_engine, NEXT + timedelta(days=3))
    young = over(own_engine, datetime.now(UTC) - timedelta(days=2))
    held = Trip(NEXT + timedelta(days=4))  # nobody has ended it: its month stays
    store_batch(own_engine, [accepted(held), update(held, 1)])
    before = {trip: track_of(own_engine, trip) for trip in (inside, reaching, beside, young)}
    metrics = work()
    assert GOES not in names(own_engine)
    assert not rows(own_engine, "SELECT FROM pg_class WHERE relname = :name", name=GOES)
    for trip in (inside, reaching):
        was, now = before[trip], track_of(own_engine, trip)
        assert waypoints(own_engine, trip) == 0
        assert now.route_expired_at is not None
        assert now.version > was.version
        assert (now.distance_mm, now.waypoint_count, now.head_seq, now.epoch) == (
            was.distance_mm, 4, 4, was.epoch,
        )  # fmt: skip
        assert (now.pickup_lat, now.dropoff_lng, now.last_recorded_at) == (None,) * 3
        (summary,) = rows(
            own_engine, "SELECT * FROM route_metadata WHERE track_id = :id", id=now.id
        )
        assert (summary["distance_m"], summary["duration_s"]) == (was.distance_mm / 1000, 4 * HOUR)
        assert {summary[name] for name in ("simplified", "west", "south", "east", "north")} == {
            None
        }
        told = settled_summary(own_engine, now)
        assert told.is_settled
        assert told.summary is not None
        assert (told.summary.times.duration_s, told.summary.stops) == (4 * HOUR, ())
    for trip in (beside, young):
        assert (track_of(own_engine, trip), waypoints(own_engine, trip)) == (before[trip], 4)
    places = rows(
        own_engine, "SELECT DISTINCT booking_id FROM booking_facts WHERE pickup IS NOT NULL"
    )
    assert {row["booking_id"] for row in places} == {beside.booking_id, young.booking_id}
    count = metrics.registry.get_sample_value
    assert count("tracking_expired_routes_total") == 2
    assert count("tracking_dropped_partitions_total") == 1
    assert count("tracking_retention_floor_timestamp_seconds") == NEXT.timestamp()
    assert work().registry.get_sample_value("tracking_expired_routes_total") == 0


def unended(engine: sa.Engine, trip: Trip) -> None:
    other = Trip(trip.start)
    store_batch(engine, [accepted(other), update(other, 1)])


def ended_lately(engine: sa.Engine, trip: Trip) -> None:
    other = Trip(trip.start)
    end = (datetime.now(UTC) - timedelta(days=29) - trip.start).total_seconds()
    store_batch(engine, [accepted(other), update(other, 1), delivered(other, end)])
    update_metadata(engine, track_of(engine, other).id)
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM published_watermarks")


def not_added_up(engine: sa.Engine, trip: Trip) -> None:
    store_batch(engine, [update(trip, HOUR * 1.5)])
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM published_watermarks")


def not_sent(engine: sa.Engine, trip: Trip) -> None:
    store_batch(engine, [update(trip, HOUR * 1.5)])
    update_metadata(engine, track_of(engine, trip).id)


@pytest.mark.parametrize("hold", [unended, ended_lately, not_added_up, not_sent])
def test_a_trip_that_is_not_done_with_holds_its_month_and_all_in_it(
    own_engine: sa.Engine,
    work: Callable[[], Metrics],
    hold: Callable[[sa.Engine, Trip], None],
) -> None:
    trip = over(own_engine, OLD + timedelta(days=3))
    hold(own_engine, trip)
    stored = waypoints(own_engine, trip)
    work()
    assert GOES in names(own_engine)
    assert waypoints(own_engine, trip) == stored
    assert track_of(own_engine, trip).route_expired_at is None


def test_places_of_a_booking_that_was_never_accepted_go_too(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    old, young = Trip(OLD), Trip()
    for trip in (old, young):
        store_batch(own_engine, events(trip)[:1])
    work()
    found = rows(own_engine, "SELECT booking_id FROM booking_facts WHERE pickup IS NOT NULL")
    assert [row["booking_id"] for row in found] == [young.booking_id]


@pytest.mark.parametrize("keep", [KEEP, None], ids=["same setting", "another process, without"])
def test_what_has_gone_does_not_come_back_with_a_replay(
    own_engine: sa.Engine, work: Callable[[], Metrics], keep: timedelta | None
) -> None:
    trip = over(own_engine, NEXT - timedelta(seconds=1.5 * HOUR))
    work()
    before = names(own_engine)
    summary = rows(own_engine, "SELECT * FROM route_metadata")
    stored = replayed(own_engine, trip, keep)
    assert dict(stored.update_outcomes) == {"refused": 4}
    assert +stored.refusals == {"expired": 4}
    asked = BookingEvent(trip.booking_id, "requested", trip.at(-50), pickup=(106.8, -6.2))
    late = update(trip, 2.5 * HOUR, booking_id=None)
    stored = store_batch(own_engine, [asked, late], known=TrackCache(keep=keep))
    assert +stored.refusals == {"expired": 1}
    assert names(own_engine) == before
    assert waypoints(own_engine, trip) == 0
    assert not rows(own_engine, "SELECT FROM booking_facts WHERE pickup IS NOT NULL")
    assert not rows(own_engine, "SELECT FROM parked_updates")
    assert waiting_tracks(own_engine, 5) == []
    update_metadata(own_engine, track_of(own_engine, trip).id)  # of a process that began before
    assert rows(own_engine, "SELECT * FROM route_metadata") == summary
    assert waypoints(own_engine, trip) == 0


def test_a_replay_into_an_empty_database_makes_no_partition_and_parks_nothing(
    own_engine: sa.Engine,
) -> None:
    before, trip, unknown = names(own_engine), Trip(OLD), Trip(OLD)
    stored = replayed(own_engine, trip)
    assert dict(stored.update_outcomes) == {"refused": 4}
    stored = store_batch(own_engine, [update(unknown, 1)], known=TrackCache(keep=KEEP))
    assert +stored.refusals == {"expired": 1}
    assert names(own_engine) == before
    assert not rows(own_engine, "SELECT FROM parked_updates")
    stored = replayed(own_engine, Trip())
    assert dict(stored.update_outcomes) == {"applied": 4}


def test_who_joins_or_resumes_is_told_that_nothing_is_there(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    trip = over(own_engine, OLD + timedelta(days=3))
    work()
    track = track_of(own_engine, trip)
    assert count_rows(own_engine, track.id, 1, track.head_seq) == 0  # recovered: false
    assert missed_page(own_engine, track.id, 0, track.head_seq) == []
    state = live_state(own_engine, trip.booking_id)
    assert state is not None
    assert (state.last, state.head_seq, state.status) == (None, 4, "completed")


def test_a_summary_outlives_what_is_said_of_the_booking_later(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    trip = over(own_engine, OLD + timedelta(days=3))
    before = settled_summary(own_engine, track_of(own_engine, trip)).summary
    work()
    version = track_of(own_engine, trip).version
    store_batch(own_engine, [delivered(trip, 3 * HOUR)])  # earlier than the one before
    track = track_of(own_engine, trip)
    assert track.version > version
    told = settled_summary(own_engine, track)
    assert told.is_settled
    assert before is not None
    assert told.summary == replace(before, stops=())


def test_ingest_and_readers_go_on_while_a_partition_waits_for_a_slow_reader(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    over(own_engine, OLD + timedelta(days=3))
    with slow_reader(own_engine) as reader, ThreadPoolExecutor(1) as threads:
        round_ = threads.submit(work)
        wait_until(lambda: waiting_for_readers(own_engine), "the detachment waits")
        trip = Trip()
        assert replayed(own_engine, trip).update_outcomes == {"applied": 4}
        assert replayed(own_engine, Trip(OLD)).update_outcomes == {"refused": 4}
        assert waypoints(own_engine, trip) == 4
        # Nobody waits for the lock of anybody, but retention for the reader.
        assert rows(own_engine, WAITING) == []
        assert not round_.done()
        reader.rollback()
        round_.result(30)
    assert GOES not in names(own_engine)


WAITING = """
    SELECT pid FROM pg_locks WHERE NOT granted AND locktype = 'relation'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def slow_reader(engine: sa.Engine) -> sa.Connection:
    connection = sa.create_engine(engine.url, poolclass=sa.NullPool).connect()
    connection.execute(sa.text("SELECT count(*) FROM waypoints"))
    return connection


def waiting_for_readers(engine: sa.Engine) -> list[Any]:
    return rows(
        engine,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE '%CONCURRENTLY%' AND wait_event = 'virtualxid'",
    )


def test_a_round_whose_connection_is_cut_while_it_waits_is_finished_by_the_next(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    trip = over(own_engine, OLD + timedelta(days=3))
    with slow_reader(own_engine) as reader, ThreadPoolExecutor(1) as threads:
        round_ = threads.submit(work)
        (waiting,) = wait_until(lambda: waiting_for_readers(own_engine), "the detachment waits")
        rows(own_engine, "SELECT pg_terminate_backend(:pid)", pid=waiting["pid"])
        with pytest.raises(sa.exc.DBAPIError):
            round_.result(30)
        reader.rollback()
    assert rows(own_engine, "SELECT FROM pg_inherits WHERE inhdetachpending")
    assert replayed(own_engine, trip).update_outcomes == {"refused": 4}
    work()
    assert not rows(own_engine, "SELECT FROM pg_class WHERE relname = :name", name=GOES)
    assert not rows(own_engine, "SELECT FROM pg_inherits WHERE inhdetachpending")


@pytest.mark.parametrize(
    "step", ["UPDATE booking_facts", "DELETE FROM waypoints", "COMMENT ON", "DROP TABLE"]
)
def test_a_round_that_is_killed_before_a_step_is_finished_by_the_next(
    own_engine: sa.Engine,
    work: Callable[[], Metrics],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    trips = [over(own_engine, OLD + timedelta(days=day)) for day in (3, 4)]
    reaching = over(own_engine, NEXT - timedelta(seconds=1.5 * HOUR))
    with killed_before(own_engine, step, monkeypatch), pytest.raises(sa.exc.DBAPIError):
        work()
    for trip in (*trips, reaching):
        has_gone = track_of(own_engine, trip).route_expired_at is not None
        assert has_gone == (step in ("COMMENT ON", "DROP TABLE"))
    work()
    assert not rows(own_engine, "SELECT FROM pg_class WHERE relname = :name", name=GOES)
    for trip in (*trips, reaching):
        assert track_of(own_engine, trip).route_expired_at is not None
        assert waypoints(own_engine, trip) == 0


@contextmanager
def killed_before(engine: sa.Engine, step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PostgreSQL ends the session that is about to execute such a statement."""
    other = sa.create_engine(engine.url, poolclass=sa.NullPool)

    def kill(connection: Any, statement: str) -> None:
        if step in statement:
            pid = connection.info.backend_pid
            rows(other, "SELECT pg_terminate_backend(:pid, 10000)", pid=pid)

    def before(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        kill(cursor.connection, statement)

    execute = Statements.execute

    def executing(self: Statements, statement: Any, values: Any = None) -> None:
        kill(self.connection, str(statement))
        execute(self, statement, values)

    sa.event.listen(engine, "before_cursor_execute", before)
    with monkeypatch.context() as patch:
        patch.setattr(Statements, "execute", executing)
        yield
    sa.event.remove(engine, "before_cursor_execute", before)


def test_only_one_process_drops_at_a_time(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    over(own_engine, OLD + timedelta(days=3))
    with dropping.only_one(own_engine) as first:
        assert first is not None
        work()
        assert GOES in names(own_engine)
    work()
    assert GOES not in names(own_engine)


def test_what_an_operator_has_detached_to_keep_is_kept(
    own_engine: sa.Engine, work: Callable[[], Metrics]
) -> None:
    over(own_engine, OLD + timedelta(days=3))
    with own_engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE waypoints DETACH PARTITION {GOES}"))
    work()
    assert len(rows(own_engine, f"SELECT * FROM {GOES}")) == 4


@pytest.mark.gen_test
async def test_clients_are_told_when_a_route_went_and_nothing_else_of_it(
    server: Server, engine: sa.Engine
) -> None:
    trip = Trip(datetime.now(UTC) - timedelta(days=3))
    store_batch(engine, events(trip))
    path, token = f"{API}/{trip.booking_id}", owner(server, trip)
    _, body, headers = server.get(path, token)
    assert (body["data"]["route_expired_at"], len(body["data"]["waypoints"])) == (None, 4)
    now = datetime.now(UTC)

    def is_gone() -> bool:
        update_metadata(engine, track_of(engine, trip).id)
        return expiry.expire(engine, [trip.booking_id], now, trip.start - timedelta(days=1)) == 1

    wait_until(is_gone, "settled, though the server settles it, too, and gone")
    status, body, _ = server.get(path, token, **{"If-None-Match": headers["ETag"]})
    assert (status, body["data"]["waypoints"], body["data"]["seq"]) == (200, [], 4)
    assert body["data"]["total_distance_km"] > 0
    assert body["data"]["route_expired_at"].startswith(f"{now.year}-")
    epoch = body["data"]["epoch"]
    for name in ("route", "export.gpx", "export.csv", "export.kml", "export.geojson"):
        status, body, _ = server.get(f"{path}/{name}", token)
        assert (status, body["success"]) == (410, False)
    resumed = await Client.join(server, trip.booking_id, token, epoch=epoch, since_seq=1)
    welcome = await resumed.next_of("welcome")
    assert (welcome["recovered"], welcome["last_position"], welcome["seq"]) == (False, None, 4)
    resumed.socket.close()
    admin = server.token(trip.owner_id, "admin")
    _, body, _ = server.get(f"/api/v1/ops/trips/{trip.booking_id}", admin)
    assert (body["data"]["points"], body["data"]["pickup"]) == ([], None)
    assert body["data"]["route_expired_at"] > 0


def test_a_server_that_has_the_setting_does_it_by_itself(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
        trip = over(engine, OLD + timedelta(days=3))
        with running_server(own, tmp_path / "server.log", RETENTION_DAYS="30") as server:
            platform = Platform(own["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
            platform.accept(Trip())
            platform.update(Trip(), 0)  # before there are topics, nobody knows what lies unread
            platform.close()
            wait_until(lambda: GOES not in names(engine), "the old month is gone", 120)
            expired = track_of(engine, trip).route_expired_at
            wait_until(lambda: server.metric("tracking_dropped_partitions_total"), "counted")
        engine.dispose()
    assert expired is not None
    log = (tmp_path / "server.log").read_text()
    assert f"partition {GOES} dropped" in log
