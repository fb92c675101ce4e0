"""Where the demo runs: a database and topics of its own on the private services."""

import contextlib
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psycopg2
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from dev.private_services import Services
from dev.street_map import write

CHECKOUT: Final = Path(__file__).resolve().parent.parent
DATABASE: Final = "tracking_demo"


class DemoError(Exception):
    """A part did not start, or ended; the text says which and shows its log."""


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def environment(stack: contextlib.ExitStack) -> dict[str, str]:
    """The services' variables, completed. On private services the demo has a database and topics
    of its own, so that it does not meet a server of `make run`; on others it takes what is given.
    """
    environ = dict(os.environ)
    environ.setdefault("JWT_SECRET", secrets.token_hex(32))
    environ["SERVICE_PORT"] = _free_port(environ.get("SERVICE_PORT"))
    environ["PUBLIC_URL"] = f"http://127.0.0.1:{environ['SERVICE_PORT']}"
    environ.setdefault("MAP_STREETS_FILE", str(_streets(environ)))
    own = f"demo-{secrets.token_hex(4)}"
    # A group of its own, or another server of these topics would share the records with it.
    environ.setdefault("KAFKA_GROUP_ID", own)
    environ.setdefault("DB_NAME", "tracking_db")
    private = Services(CHECKOUT / ".dev").settings()
    if _same(environ, private, "KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX"):
        environ["KAFKA_TOPIC_PREFIX"] = own
        stack.callback(_delete_topics, environ["KAFKA_BROKERS"], f"{own}.")
    if _same(environ, private, "DB_HOST", "DB_PORT", "DB_NAME"):
        environ["DB_NAME"] = DATABASE
        try:
            _create_database(environ)
        except psycopg2.Error as error:
            raise DemoError(f"database {DATABASE}: {error}") from error
    return environ


def logs_of(environ: Mapping[str, str]) -> Path:
    """Where the demo writes what it leaves."""
    folder = Path(environ.get("DEMO_LOGS") or CHECKOUT / ".dev")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _streets(environ: Mapping[str, str]) -> Path:
    """The simulator's streets, for the map."""
    path = logs_of(environ) / "streets.json"
    write(path)
    return path


def _same(environ: Mapping[str, str], private: Mapping[str, str], *names: str) -> bool:
    return all(name in private and environ.get(name) == private[name] for name in names)


def _delete_topics(brokers: str, prefix: str) -> None:
    """Every demo makes new ones; a hundred demos later Kafka would be slow to start."""
    try:
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=brokers.split(","))) as admin:
            admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
    except KafkaError as error:
        say(f"topics {prefix}* stay behind: {error!r}")


def _create_database(environ: Mapping[str, str]) -> None:
    connection = psycopg2.connect(
        host=environ["DB_HOST"], port=environ["DB_PORT"], user=environ["DB_USER"],
        password=environ.get("DB_PASSWORD"), dbname="postgres",
    )  # fmt: skip
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        connection.close()


def _free_port(wanted: str | None) -> str:
    """The wanted one unless somebody has it."""
    for port in (int(wanted or 8005), 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            return str(probe.getsockname()[1])
    raise DemoError("no free port")
