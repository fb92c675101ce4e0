"""`server.py --check`: try every connection that the settings name, and say what is wrong."""

import asyncio
import socket
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tracking.errors import SchemaOutdated
from tracking.journal import complain
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.engine import check_schema, create_engine, expected_revision
from workers.erasures import TOPIC as ERASURES
from workers.erasures import wrong_policy
from workers.eta_router import EtaRouter
from workers.kafka.clients import connection_options, explained
from workers.relay.client import RelayError, policy_of, reachable_partitions

# PgBouncer's, of the parameter in which our limits are.
NO_OPTIONS: Final = "unsupported startup parameter"
NO_OPTIONS_HINT: Final = (
    " (is this a PgBouncer? DB_HOST has to be PostgreSQL itself, a PgBouncer belongs into"
    " DB_POOLER)"
)
COLLECTOR_S: Final = 3.0
WHICH_SERVER: Final = sa.text(
    "SELECT current_database(), pg_postmaster_start_time(), pg_is_in_recovery()"
)
NEEDED_TOPICS: Final = ("booking.events", "runner.events", "tracking.events", "dead-letter")


def check_connections(settings: Settings, role: str) -> int:
    """One line for each, on stdout or, if it failed, on stderr; how many failed."""
    failed = 0
    checks = {
        "database": _check_database, "pooler": _check_pooler, "kafka": _check_kafka,
        "relay": _check_relay, "tracing": _check_tracing,
    }  # fmt: skip
    if not settings.db_pooler or not settings.serves_clients:
        del checks["pooler"]
    if role == "all":
        del checks["relay"]
    if not settings.otel_exporter_otlp_endpoint:
        del checks["tracing"]
    for name, attempt in checks.items():
        try:
            print(f"{name}: {attempt(settings)}")
        except (sa.exc.SQLAlchemyError, SchemaOutdated, KafkaError, RelayError, OSError) as error:
            text = str(getattr(error, "orig", None) or error).strip().splitlines()
            said = text[0] if text else repr(error)
            complain(f"{name}: {said}{NO_OPTIONS_HINT if NO_OPTIONS in said else ''}")
            failed += 1
    print(f"retention: {_retention(settings)}")
    if settings.serves_clients:
        print(f"eta router: {_check_eta_router(settings)}")
    return failed


def _retention(settings: Settings) -> str:
    if settings.keep is None:
        return "routes are kept for ever (RETENTION_DAYS=0)"
    return f"routes go once their trips have been over for {settings.retention_days} days"


def _check_database(settings: Settings) -> str:
    engine = create_engine(settings, name="check", pool_size=1)
    try:
        with engine.connect() as connection:
            check_schema(connection, expected_revision())
            version = connection.scalar(sa.text("SELECT postgis_lib_version()"))
    finally:
        engine.dispose()
    return f"ok, schema {expected_revision()}, PostGIS {version}"


def _check_pooler(settings: Settings) -> str:
    """It has to lead to the same primary: who joins must not be told of an older state."""
    engine = create_engine(settings, name="check", pool_size=1, autocommit=True)
    direct = create_engine(settings, name="check", pool_size=1)
    try:
        with engine.connect() as through, direct.connect() as connection:
            if through.execute(WHICH_SERVER).one() != connection.execute(WHICH_SERVER).one():
                raise OSError("leads to another server or database than DB_HOST and DB_NAME")
    finally:
        engine.dispose()
        direct.dispose()
    return "ok, leads to the database of DB_HOST"


def _check_kafka(settings: Settings) -> str:
    with explained():
        admin = KafkaAdminClient(**connection_options(settings), bootstrap_timeout_ms=5_000)
        try:
            topics = set(admin.list_topics())
        finally:
            admin.close()
    erasures = settings.topic(ERASURES)
    needed = [settings.topic(name) for name in NEEDED_TOPICS]
    missing = [name for name in needed if name not in topics]
    said = "ok" + (f", not there yet: {', '.join(missing)}" if missing else "")
    wrong = wrong_policy(erasures, policy_of(settings, erasures)) if erasures in topics else ""
    return f"{said}, but {wrong}" if wrong else said


def _check_relay(settings: Settings) -> str:
    """By librdkafka, which has other needs of certificates and passwords than kafka-python."""
    count = reachable_partitions(settings)
    return (
        f"ok, {count} partitions" if count else "ok, not there yet: the first who stores makes it"
    )


def _check_tracing(settings: Settings) -> str:
    """A remark only: a collector that is away costs spans, and no upgrade waits for it."""
    address = urlsplit(settings.otel_exporter_otlp_endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((str(address.hostname), port), COLLECTOR_S).close()
    except OSError as error:
        return f"ok, but spans are lost until the collector is there: {error.strerror or error}"
    return "ok, somebody listens there"


def _check_eta_router(settings: Settings) -> str:
    """A remark only: without it ETAs come from the distance."""
    if not settings.eta_router_url:
        return "none (ETA_ROUTER_URL), ETAs come from the distance"

    async def attempt() -> str:
        router = EtaRouter(settings, Metrics(), 1)
        try:
            return await router.try_once()
        finally:
            router.close()

    problem = asyncio.run(attempt())
    return f"ok, but ETAs come from the distance until it works: {problem}" if problem else "ok"
