"""tracking.store.statements: transactions of few round trips, on a real PostgreSQL."""

import io
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

import psycopg2
import pytest
import sqlalchemy as sa

from tests.proxy import Proxy
from tests.running import Trip, connect, wait_until
from tests.test_store_ingest import accepted, update, waypoints
from tracking.settings import DatabaseSettings
from tracking.store import statements as statements_module
from tracking.store.engine import create_engine
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.statements import prepared, transaction


@contextmanager
def behind_proxy(database: dict[str, str]) -> Iterator[tuple[sa.Engine, Proxy]]:
    proxy = Proxy(database["DB_HOST"], int(database["DB_PORT"]))
    own = {**database, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}
    engine = create_engine(DatabaseSettings.from_environment(own), name="tests", ping=False)
    try:
        yield engine, proxy
    finally:
        engine.dispose()
        proxy.close()


def test_a_lone_update_takes_one_round_trip(database: dict[str, str]) -> None:
    trip, known = Trip(), TrackCache()
    with behind_proxy(database) as (engine, proxy):
        store_batch(engine, [accepted(trip), update(trip, 1)], (), known)
        before = proxy.asked
        store_batch(engine, [update(trip, 2)], (), known)
        assert proxy.asked - before == 1
        assert waypoints(engine, trip) == [(1, 1), (2, 2)]


def test_a_track_that_another_process_changed_is_read_again(database: dict[str, str]) -> None:
    trip, ours, theirs = Trip(), TrackCache(), TrackCache()
    with behind_proxy(database) as (engine, proxy):
        store_batch(engine, [accepted(trip), update(trip, 1)], (), ours)
        store_batch(engine, [update(trip, 2)], (), theirs)
        stored = store_batch(engine, [update(trip, 3), update(trip, 2)], (), ours)
        assert [w.seq for w in stored.waypoints] == [3]
        assert stored.update_outcomes == {"applied": 1, "duplicate": 1}
        assert not ours.is_only_writer
        before = proxy.asked
        store_batch(engine, [update(trip, 4)], (), ours)  # asks first, for now
        assert proxy.asked - before == 2
        assert waypoints(engine, trip) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_what_waits_is_executed_before_what_is_read(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.later("CREATE TEMPORARY TABLE seen (number int) ON COMMIT DROP")
        cursor.later("INSERT INTO seen VALUES (%s)", (1,))
        cursor.execute("SELECT number FROM seen")
        assert cursor.fetchall() == [(1,)]


def test_what_waits_is_executed_before_what_is_copied(engine: sa.Engine) -> None:
    with transaction(engine) as cursor:
        cursor.later("CREATE TEMPORARY TABLE copied (number int) ON COMMIT DROP")
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO("1\n2\n"))
        cursor.execute("SELECT sum(number) FROM copied")
        assert cursor.fetchall() == [(3,)]


def test_a_plan_is_made_once_and_anew_after_a_minute_or_an_error(
    database: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(DatabaseSettings.from_environment(database), name="tests", pool_size=1)
    one = prepared("one", "SELECT %s::int + 1")

    def made_at() -> datetime:
        with transaction(engine) as cursor:
            cursor.execute(one, (1,))
            assert cursor.fetchall() == [(2,)]
            cursor.execute("SELECT prepare_time FROM pg_prepared_statements WHERE name = 'one'")
            ((time,),) = cursor.fetchall()
            return time  # type: ignore[no-any-return]

    first = made_at()
    assert made_at() == first
    with pytest.raises(LookupError), transaction(engine):
        raise LookupError
    second = made_at()
    assert second > first
    monkeypatch.setattr(statements_module, "PLANS_LAST_S", -1.0)
    assert made_at() > second
    engine.dispose()


def test_an_error_of_a_statement_that_waited_undoes_everything(engine: sa.Engine) -> None:
    def fails_in_the_database() -> None:
        with transaction(engine) as cursor:
            cursor.execute("INSERT INTO kept VALUES (1)")
            cursor.later("SELECT 1 / 0")

    def fails_in_python() -> None:
        with transaction(engine) as cursor:
            cursor.execute("INSERT INTO kept VALUES (2)")
            raise LookupError

    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept (number int)"))
    with pytest.raises(sa.exc.DBAPIError):
        fails_in_the_database()
    with pytest.raises(LookupError):
        fails_in_python()
    with transaction(engine) as cursor:
        cursor.execute("INSERT INTO kept VALUES (3)")
    with transaction(engine) as cursor:
        cursor.execute("SELECT number FROM kept")
        assert cursor.fetchall() == [(3,)]
        cursor.later("DROP TABLE kept")


def test_what_follows_a_lock_sees_what_it_waited_for(
    engine: sa.Engine, database: dict[str, str]
) -> None:
    """Two statements of one message: each has a snapshot of its own."""
    trip = Trip()
    store_batch(engine, [accepted(trip)])
    seen: list[int] = []

    def read_behind_the_lock() -> None:
        with transaction(engine) as cursor:
            cursor.later(
                "SELECT FROM bookings WHERE booking_id = %s FOR NO KEY UPDATE",
                (trip.booking_id,),
            )
            cursor.execute("SELECT version FROM tracks WHERE booking_id = %s", (trip.booking_id,))
            seen.extend(version for (version,) in cursor)

    with closing(connect(database)) as other, closing(connect(database)) as watching:
        watching.autocommit = True
        cursor = other.cursor()
        cursor.execute("SELECT FROM bookings WHERE booking_id = %s FOR UPDATE", (trip.booking_id,))
        thread = threading.Thread(target=read_behind_the_lock)
        thread.start()
        wait_until(lambda: _waits_for_a_lock(watching), "the reader waits")
        cursor.execute("UPDATE tracks SET version = 99 WHERE booking_id = %s", (trip.booking_id,))
        other.commit()
        thread.join(10)
    assert seen == [99]


def _waits_for_a_lock(connection: psycopg2.extensions.connection) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                       " AND datname = current_database()")  # fmt: skip
        return cursor.rowcount > 0


def test_a_connection_goes_back_to_the_pool_as_it_came(engine: sa.Engine) -> None:
    for fails in (False, True):
        try:
            with transaction(engine) as cursor:
                cursor.execute("SELECT 1")
                driver = cursor.connection
                if fails:
                    raise LookupError
        except LookupError:
            pass
        assert not driver.autocommit
        assert driver.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE
