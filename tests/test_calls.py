"""tracking.store.calls: nothing runs that nobody waits for, nothing waits without end."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.running import wait_until
from tracking.errors import DatabaseUnavailable
from tracking.metrics import Metrics
from tracking.settings import DatabaseSettings
from tracking.store import calls as calls_module
from tracking.store.calls import StoreCalls
from tracking.store.engine import create_engine, translated


class Blocking:
    """A store function that waits until it is let, and remembers who was called."""

    __name__ = "blocking"

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.ran: list[object] = []

    def __call__(self, _: sa.Engine, who: object) -> object:
        self.begun.set()
        assert self.open.wait(15)
        self.ran.append(who)
        return who


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    blocking = Blocking()
    yield blocking
    blocking.open.set()


def calls_of(engine: Any, timeout_s: float = 15.0) -> StoreCalls:
    return StoreCalls(engine, "test", 1, timeout_s, Metrics())


async def answer_of(calls: StoreCalls) -> str:
    return await calls.ask(lambda _: "next")


@pytest.mark.gen_test
async def test_a_call_that_timed_out_before_it_began_never_runs(blocking: Blocking) -> None:
    calls = calls_of(None, 0.05)
    first = asyncio.create_task(calls.ask(blocking, "first"))
    await asyncio.to_thread(blocking.begun.wait, 15)
    for number in range(5):
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await calls.ask(blocking, number)
    with pytest.raises(DatabaseUnavailable):
        await first
    blocking.open.set()
    calls._timeout_s = 15.0
    assert await answer_of(calls) == "next"
    assert blocking.ran == ["first"]
    calls.close()


@pytest.mark.gen_test
async def test_a_call_whose_caller_left_never_runs(blocking: Blocking) -> None:
    calls = calls_of(None)
    tasks = [asyncio.create_task(calls.ask(blocking, number)) for number in range(5)]
    await asyncio.to_thread(blocking.begun.wait, 15)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.wait(tasks[1:])  # the first one's end would let the next one begin
    blocking.open.set()
    assert await tasks[0] == 0
    assert await answer_of(calls) == "next"
    assert blocking.ran == [0]
    calls.close()


@pytest.mark.gen_test
async def test_a_full_queue_says_so_at_once_and_is_free_again(
    blocking: Blocking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "WAITING_PER_THREAD", 3)
    calls = calls_of(None)
    tasks = [asyncio.create_task(calls.ask(blocking, number)) for number in range(4)]
    await asyncio.to_thread(blocking.begun.wait, 15)
    with pytest.raises(DatabaseUnavailable, match="too many"):
        await calls.ask(blocking, "one too many")
    blocking.open.set()
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
    assert await answer_of(calls) == "next"
    calls.close()


@translated
def sleep(engine: sa.Engine, seconds: float) -> None:
    with engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_sleep(seconds)))


@pytest.mark.gen_test
async def test_a_statement_ends_before_its_caller_gives_up(database: dict[str, str]) -> None:
    engine = create_engine(
        DatabaseSettings.from_environment(database), name="tests", statement_timeout_s=0.1
    )
    calls = calls_of(engine)
    with pytest.raises(DatabaseUnavailable, match="not available"):
        await calls.ask(sleep, 60)
    calls.close()
    engine.dispose()
    assert calls_module.REQUEST_STATEMENT_S < calls_module.REQUEST_TIMEOUT_S < 2
    assert calls_module.READ_STATEMENT_S < calls_module.READ_TIMEOUT_S


@pytest.mark.gen_test
async def test_an_error_of_the_function_is_the_callers() -> None:
    calls = calls_of(None)

    def wrong(_: sa.Engine) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await calls.ask(wrong)
    calls.close()


def test_a_connection_is_there_before_it_is_needed(database: dict[str, str]) -> None:
    """Else the first call would fail while PostgreSQL serves only those who are connected."""
    settings = DatabaseSettings.from_environment(database)
    engine = create_engine(settings, name="tests")
    pool = engine.pool
    assert isinstance(pool, sa.QueuePool)
    calls = calls_of(engine)
    calls.connect()
    wait_until(lambda: pool.checkedin() == 1, "the pool has one")
    calls.close()
    engine.dispose()


@pytest.mark.gen_test
async def test_a_database_that_is_away_at_the_start_stops_no_call(
    database: dict[str, str],
) -> None:
    engine = create_engine(
        DatabaseSettings.from_environment({**database, "DB_PORT": "1"}), name="tests"
    )
    calls = calls_of(engine)
    calls.connect()
    assert await answer_of(calls) == "next"
    calls.close()
    engine.dispose()
