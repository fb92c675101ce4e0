"""How PostgreSQL is reached: engine and limits, UUIDs, the schema check, the error table."""

import struct
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

import psycopg2.extras
import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import new_type, register_type
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tracking.errors import DatabaseUnavailable, SchemaOutdated
from tracking.settings import DatabaseSettings

P = ParamSpec("P")
R = TypeVar("R")

# libpq's shortest is 2 s; a database on the same network answers in milliseconds.
CONNECT_TIMEOUT_S: Final = 3
# A batch waits this long for another process's lock before it starts again from the beginning.
LOCK_TIMEOUT_S: Final = 2
# Unacknowledged bytes for so long mean that the link is dead, whatever the kernel still hopes.
TCP_USER_TIMEOUT_MS: Final = 10_000

# SQLSTATE classes that say "these data, never": data exceptions and violated constraints.
POISON_CLASSES: Final = ("22", "23")
CHECK_VIOLATION: Final = "23514"
# What the driver itself raises for values that it cannot write.
VALUE_ERRORS: Final = (ValueError, ArithmeticError, struct.error)
# Our own bugs that one event provokes: it is kept until they are fixed, and the rest goes on. A
# crash would only bring the same event again.
BUG_ERRORS: Final = (TypeError, LookupError, AttributeError, AssertionError)


@lru_cache(maxsize=1 << 16)  # a busy service reads the same tracks and runners in every batch
def _uuid(text: str) -> UUID:
    return UUID(text)


def _read_uuid(text: Any, _: Cursor) -> UUID | None:
    return None if text is None else _uuid(text)


_UUID_OID: Final = 2950
psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]  # how they are written
register_type(new_type((_UUID_OID,), "UUID", _read_uuid))  # how they are read


def create_engine(
    settings: DatabaseSettings,
    *,
    name: str,
    pool_size: int = 2,
    statement_timeout_s: float = 30,
    ping: bool = True,
    autocommit: bool = False,
) -> sa.Engine:
    """An engine of its own for each kind of work, so that one cannot starve the other.

    `ping` asks a pooled connection whether it lives before each use: one round trip, which work
    that is tried again anyway can save. With `autocommit` each statement is a transaction of its
    own: work of single statements saves two round trips.
    """
    url = sa.URL.create(
        "postgresql+psycopg2",
        username=settings.db_user,
        password=settings.db_password or None,
        host=settings.db_host,
        port=settings.db_port,
        database=settings.db_name,
    )
    return sa.create_engine(
        url,
        connect_args=_connect_arguments(settings, name, statement_timeout_s),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2,
        pool_pre_ping=ping,
        **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
    )


def _connect_arguments(
    settings: DatabaseSettings, name: str, statement_timeout_s: float
) -> dict[str, Any]:
    """What libpq is told of a connection: its limits and how it notices a dead link."""
    limits = {
        "statement_timeout": statement_timeout_s,
        "lock_timeout": LOCK_TIMEOUT_S,
        "idle_in_transaction_session_timeout": 60,
    }
    options = " ".join(f"-c {limit}={round(s * 1000)}" for limit, s in limits.items())
    arguments: dict[str, Any] = {
        "application_name": f"service-tracking {name}",
        "connect_timeout": CONNECT_TIMEOUT_S,
        # Compiling a query takes 300 ms here, more than any of ours takes to run.
        "options": f"{options} -c timezone=UTC -c jit=off"
        # What is prepared is planned once, and not for each array that it gets.
        " -c plan_cache_mode=force_generic_plan",
        "sslmode": settings.db_ssl_mode,
        "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
    }
    if settings.db_ssl_root_cert:
        arguments["sslrootcert"] = settings.db_ssl_root_cert
    return arguments


def is_poison(error: Exception) -> bool:
    """Will these data fail again, whenever they are tried? By SQLSTATE."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, VALUE_ERRORS) or is_bug(error)
    state = getattr(error.orig, "pgcode", None) or ""
    # A missing partition reports a check violation, too, but one of no constraint: it will be
    # made, nothing is poisoned. (The message says so in the server's language.)
    if state == CHECK_VIOLATION:
        return _constraint(error) is not None
    return state[:2] in POISON_CLASSES


def is_bug(error: Exception) -> bool:
    """Is it this service that fails, not the data?"""
    return isinstance(error, BUG_ERRORS)


def _constraint(error: DBAPIError) -> str | None:
    """The violated constraint's name."""
    return getattr(getattr(error.orig, "diag", None), "constraint_name", None)


def is_transient(error: Exception) -> bool:
    """Will the same transaction succeed later? A connection, a lock, a full disk, an old schema.

    Every error of the database that does not blame the data: an unknown one must lose nothing.
    """
    return isinstance(error, DBAPIError | PoolTimeout) and not is_poison(error)


def translated(function: Callable[P, R]) -> Callable[P, R]:
    """For what requests call: a database that is away becomes DatabaseUnavailable."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (DBAPIError, PoolTimeout) as error:
            if is_transient(error):
                raise DatabaseUnavailable("the database is not available") from error
            raise

    return call


def expected_revision() -> str:
    """The newest migration beside this code."""
    root = Path(__file__).resolve().parents[2]
    config = Config()
    config.set_main_option("script_location", str(root / "alembic"))
    head = ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head


def check_schema(connection: sa.Connection, expected: str) -> None:
    """Raises SchemaOutdated, which says what to run.

    A schema may be newer than the code: while the next release is deployed, and after it was rolled
    back. Then the schema says whether the code runs on it.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found == expected or (found is not None and _runs_on_newer(connection, expected)):
        return
    if found is not None and found > expected:
        raise SchemaOutdated(
            f"database schema is at {found}, on which the code of {expected} does not run:"
            " install a newer release"
        )
    raise SchemaOutdated(
        f"database schema is at {found or 'nothing'}, this version needs {expected}:"
        " run `alembic upgrade head` (or `make migrate`)"
    )


def _runs_on_newer(connection: sa.Connection, expected: str) -> bool:
    """What the newer schema's migrations say of this code."""
    if connection.scalar(sa.text("SELECT to_regclass('code_revisions')")) is None:
        return False
    known = sa.text("SELECT FROM code_revisions WHERE revision = :revision")
    return connection.execute(known, {"revision": expected}).first() is not None
