"""Shared fixtures: a database of one's own on the private PostgreSQL, engines, servers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from tests.running import NEEDED, Platform, Server, fresh_database, running_server
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine

# One example is many transactions: a slow one is no failure. `--hypothesis-profile=long` is for
# hours beside other work; `print_blob` makes every failure repeatable.
settings.register_profile(
    "short", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("short"), max_examples=20_000)
settings.load_profile("short")


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
    with fresh_database(environ) as own:
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
        yield engine
        engine.dispose()


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
