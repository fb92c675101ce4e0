"""Databases of a test module's own, where no server drains the outbox or settles trips."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from tests.running import fresh_database
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine


@contextmanager
def own_database(environ: dict[str, str], pool_size: int = 5) -> Iterator[sa.Engine]:
    """Fresh and migrated; dropped at the end."""
    with fresh_database(environ) as own:
        engine = create_engine(
            DatabaseSettings.from_environment(own), name="tests", pool_size=pool_size
        )
        yield engine
        engine.dispose()
