"""tracking.store.engine: which errors pass, and which blame the data, as PostgreSQL reports."""

import struct
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import sqlalchemy as sa

from tests.running import connect
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine, is_poison, is_transient
from tracking.store.statements import transaction

TRANSIENT = {
    "08000": "connection exception",
    "08006": "connection failure",
    "25006": "read-only transaction",
    "25P03": "stood still in a transaction",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "42P01": "a table that is not there yet: an old schema",
    "42703": "a column that is not there yet",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55P03": "lock not available",
    "57014": "statement timeout",
    "57P01": "administrator's shutdown",
    "57P02": "crash shutdown",
    "57P03": "starting up",
    "58030": "input or output error of the disk",
    "XX000": "internal error",
}
POISON = {
    "22000": "data exception",
    "22001": "text too long",
    "22003": "number out of range",
    "22008": "time out of range",
    "22021": "bytes that are no text",
    "22P02": "not of the type's form",
    "22P05": "a character that cannot be stored",
    "23502": "null where none may be",
    "23503": "refers to nothing",
    "23505": "there already",
}


def failure(engine: sa.Engine, work: Callable[[Any], object]) -> Exception:
    with pytest.raises(Exception) as caught, transaction(engine) as cursor:
        work(cursor)
    return caught.value


def raised(engine: sa.Engine, state: str, more: str = "") -> Exception:
    statement = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'{more}; END $$"
    return failure(engine, lambda cursor: cursor.execute(statement))


@pytest.mark.parametrize("state", TRANSIENT, ids=TRANSIENT.get)
def test_what_passes_is_tried_again(engine: sa.Engine, state: str) -> None:
    error = raised(engine, state)
    assert (is_transient(error), is_poison(error)) == (True, False)


@pytest.mark.parametrize("state", POISON, ids=POISON.get)
def test_what_blames_the_data_is_poison(engine: sa.Engine, state: str) -> None:
    error = raised(engine, state)
    assert (is_transient(error), is_poison(error)) == (False, True)


def test_a_violated_check_is_poison_and_a_missing_partition_is_not(engine: sa.Engine) -> None:
    assert is_poison(raised(engine, "23514", ", CONSTRAINT = 'tracks_status'"))
    statement = (
        "INSERT INTO waypoints (track_id, recorded_at, runner_id, reported_at, seq, received_at,"
        " position) VALUES (%s, '1990-01-01', %s, now(), 1, now(), ST_Point(1, 2, 4326))"
    )
    error = failure(engine, lambda c: c.execute(statement, (uuid4(), uuid4())))
    assert error.orig.pgcode == "23514"  # type: ignore[attr-defined]
    assert (is_transient(error), is_poison(error)) == (True, False)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT %s", "nul \x00"),
        ("SELECT %s", "lone \ud800"),
        ("SELECT %s::bigint", 2**70),
        ("SELECT %s::int[]", "{1,x}"),
        ("SELECT %s::uuid", "x"),
        ("SELECT ('{\"a\": ' || %s || '}')::jsonb", "NaN"),
        ("SELECT %s::timestamptz", "294277-01-01"),
    ],
)
def test_values_that_cannot_be_written_are_poison(
    engine: sa.Engine, statement: str, value: object
) -> None:
    error = failure(engine, lambda cursor: cursor.execute(statement, (value,)))
    assert (is_transient(error), is_poison(error)) == (False, True)


@pytest.mark.parametrize("error", [OverflowError(), struct.error(), ValueError()])
def test_what_the_driver_cannot_pack_is_poison(error: Exception) -> None:
    assert (is_transient(error), is_poison(error)) == (False, True)


@pytest.mark.parametrize("error", [KeyError(), TypeError(), AssertionError()])
def test_a_bug_of_ours_that_an_event_provokes_is_that_events_poison(error: Exception) -> None:
    assert (is_transient(error), is_poison(error)) == (False, True)


@pytest.mark.parametrize("error", [RuntimeError(), MemoryError(), sa.exc.InvalidRequestError()])
def test_what_says_nothing_of_the_data_is_neither(error: Exception) -> None:
    assert (is_transient(error), is_poison(error)) == (False, False)


@pytest.fixture
def lonely(database: dict[str, str]) -> Iterator[sa.Engine]:
    engine = create_engine(DatabaseSettings.from_environment(database), name="lonely", pool_size=1)
    yield engine
    engine.dispose()


def test_a_server_that_is_not_there_has_no_state_and_passes(database: dict[str, str]) -> None:
    engine = create_engine(
        DatabaseSettings.from_environment({**database, "DB_PORT": "1"}), name="nowhere"
    )
    error = failure(engine, lambda cursor: cursor.execute("SELECT 1"))
    assert error.orig.pgcode is None  # type: ignore[attr-defined]
    assert is_transient(error)


def test_a_connection_that_is_ended_passes(database: dict[str, str], lonely: sa.Engine) -> None:
    def end_then_ask(cursor: Any) -> None:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        other = connect(database)
        with other, other.cursor() as killer:
            killer.execute("SELECT pg_terminate_backend(%s)", (pid,))
        other.close()
        cursor.execute("SELECT 1")

    error = failure(lonely, end_then_ask)
    assert is_transient(error)
    with transaction(lonely) as cursor:  # the broken connection has left the pool
        cursor.execute("SELECT 1")


def test_a_pool_that_is_empty_passes(lonely: sa.Engine) -> None:
    with transaction(lonely), pytest.raises(sa.exc.TimeoutError) as caught, transaction(lonely):
        pass
    assert is_transient(caught.value)


def test_a_connection_that_was_closed_under_us_passes(lonely: sa.Engine) -> None:
    def close_then_ask(cursor: Any) -> None:
        cursor.connection.close()
        cursor.execute("SELECT 1")

    error = failure(lonely, close_then_ask)
    assert isinstance(error.__cause__, psycopg2.InterfaceError)
    assert is_transient(error)


def test_who_is_gone_in_the_middle_of_a_transaction_lets_go_of_its_locks(engine: sa.Engine) -> None:
    """A host that is cut off, or a process that stands still: others wait for them until then."""
    with engine.connect() as connection:
        shown = {
            name: connection.scalar(sa.text(f"SHOW {name}"))
            for name in ("idle_in_transaction_session_timeout", "tcp_user_timeout",
                         "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        }  # fmt: skip
    assert shown == {
        "idle_in_transaction_session_timeout": "15s",
        "tcp_user_timeout": "10000",
        "tcp_keepalives_idle": "4",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
    }
