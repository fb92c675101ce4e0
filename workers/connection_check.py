"""`server.py --check`: try every connection that the settings name, and say what is wrong."""

import sys
from typing import Final

import sqlalchemy as sa
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tracking.errors import SchemaOutdated
from tracking.settings import Settings
from tracking.store.engine import check_schema, create_engine, expected_revision
from workers.kafka.clients import connection_options, explained

NEEDED_TOPICS: Final = ("booking.events", "runner.events", "tracking.events", "dead-letter")


def check_connections(settings: Settings) -> int:
    """One line for each, on stdout or, if it failed, on stderr; how many failed."""
    failed = 0
    for name, attempt in (("database", _check_database), ("kafka", _check_kafka)):
        try:
            print(f"{name}: {attempt(settings)}")
        except (sa.exc.SQLAlchemyError, SchemaOutdated, KafkaError, OSError) as error:
            text = str(getattr(error, "orig", None) or error).strip().splitlines()
            print(f"{name}: {text[0] if text else repr(error)}", file=sys.stderr)
            failed += 1
    return failed


def _check_database(settings: Settings) -> str:
    engine = create_engine(settings, name="check", pool_size=1)
    try:
        with engine.connect() as connection:
            check_schema(connection, expected_revision())
            version = connection.scalar(sa.text("SELECT postgis_lib_version()"))
    finally:
        engine.dispose()
    return f"ok, schema {expected_revision()}, PostGIS {version}"


def _check_kafka(settings: Settings) -> str:
    with explained():
        admin = KafkaAdminClient(**connection_options(settings), bootstrap_timeout_ms=5_000)
        try:
            topics = set(admin.list_topics())
        finally:
            admin.close()
    needed = [settings.topic(name) for name in NEEDED_TOPICS]
    missing = [name for name in needed if name not in topics]
    return "ok" + (f", not there yet: {', '.join(missing)}" if missing else "")
