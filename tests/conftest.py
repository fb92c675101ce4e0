"""Shared fixtures: a database of one's own on the private PostgreSQL, engines, servers."""

import asyncio
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from tornado.ioloop import IOLoop
from xdist.scheduler import LoadScopeScheduling

from tests.databases import own_database
from tests.running import CHECKOUT, NEEDED, Platform, Server, fresh_database, running_server
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine

# Modules that take long, the longest first.
LONGEST = (
    "test_group", "test_openapi", "test_kafka_security", "test_services", "test_demo",
    "test_outgoing", "test_server", "test_examples", "test_client_library", "test_any_order",
    "test_coordinator", "test_backup",
    "test_dead_letters", "test_handshake", "test_large_routes", "test_churn", "test_viewer_faults",
    "test_after_restore", "test_stop", "test_in_flight", "test_consumer", "test_outage",
    "test_apps", "test_store_outbox", "test_gates", "test_fuzz", "test_simulator",
)  # fmt: skip

# One example is many transactions: a slow one is no failure. `--hypothesis-profile=long` is for
# hours beside other work; `print_blob` makes every failure repeatable.
settings.register_profile(
    "short", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("short"), max_examples=20_000)
settings.load_profile("short")


@pytest.fixture
def io_loop(io_loop: IOLoop) -> Iterator[IOLoop]:
    """pytest-tornado's. What a test leaves undone ends with it, not in the middle of another."""
    yield io_loop
    io_loop.run_sync(_end_tasks)


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=5)


@pytest.fixture(scope="session")
def environ() -> dict[str, str]:
    """What the private services are reached with, as `make test` exports it."""
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        pytest.exit(f"{', '.join(missing)} not set: run the tests with `make test`", 2)
    return {name: os.environ[name] for name in NEEDED}


@pytest.fixture(scope="session")
def database(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a fresh, migrated database that nobody else uses."""
    with fresh_database(environ) as own:
        yield own


@pytest.fixture(scope="session")
def engine(database: dict[str, str]) -> Iterator[sa.Engine]:
    engine = create_engine(DatabaseSettings.from_environment(database), name="tests", pool_size=5)
    yield engine
    engine.dispose()


@pytest.fixture
def own_engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """For tests that change the schema."""
    with own_database(environ) as engine:
        yield engine


# Limits and graces have tests with servers of their own.
SETTINGS = {
    "ALLOWED_ORIGINS": "https://app.example",
    "REQUESTS_PER_SECOND": "0",
    "UNKNOWN_BOOKING_GRACE": "0",
}


@pytest.fixture(scope="session")
def server(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that don't stop or starve it; bookings keep them apart."""
    log: Path = tmp_path_factory.mktemp("server") / "server.log"
    with running_server(database, log, **SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def platform(server: Server) -> Iterator[Platform]:
    platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
    yield platform
    platform.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that no worker is alone with one at the end."""
    items.sort(key=lambda item: order_of(item.path.stem))


def order_of(module: str) -> int:
    return LONGEST.index(module) if module in LONGEST else len(LONGEST)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """One test after the other to whichever worker is free; but a module with a fixture of its own,
    a server or a broker, stays on one of them.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if shares_a_fixture(module) else nodeid


@functools.cache
def shares_a_fixture(module: str) -> bool:
    return 'scope="module"' in (CHECKOUT / module).read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    config.option.loadscopereorder = False  # by number of tests; the order here is by duration
    return Scheduling(config, log)
