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
from tracking.store.pooler import direct, pooled

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
    own: work of single statements saves two round trips, and may go through the pooler.
    """
    pooler = settings.db_pooler if autocommit else ""
    return sa.create_engine(
        _url(settings, pooler),
        connect_args=_connect_arguments(settings, name)
        | (pooled if pooler else direct)(_limits(statement_timeout_s)),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=2,
        pool_pre_ping=ping,
        **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
    )


def _url(settings: DatabaseSettings, pooler: str) -> sa.URL:
    host, _, port = pooler.rpartition(":")
    return sa.URL.create(
        "postgresql+psycopg2",
        username=settings.db_user,
        password=settings.db_password or None,
        host=host.strip("[]") or settings.db_host,
        port=int(port or settings.db_port),
        database=settings.db_name,
    )


def _limits(statement_timeout_s: float) -> dict[str, object]:
    """PostgreSQL's own settings, of every transaction."""
    return {
        "statement_timeout": round(statement_timeout_s * 1000),
        "lock_timeout": LOCK_TIMEOUT_S * 1000,
        "timezone": "UTC",
        # Compiling a query takes 300 ms here, more than any of ours takes to run.
        "jit": "off",
    }


def _connect_arguments(settings: DatabaseSettings, name: str) -> dict[str, Any]:
    """What libpq is told of a connection: above all how it notices a dead link."""
    arguments: dict[str, Any] = {
        "application_name": f"service-tracking {name}",
        "connect_timeout": CONNECT_TIMEOUT_S,
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

    Every error of the database that does not blame the data: an unknown one must lose nothing. Also
    what `translated` has made of it.
    """
    kinds = DBAPIError | PoolTimeout | DatabaseUnavailable
    return isinstance(error, kinds) and not is_poison(error)


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


def is_newer_schema(connection: sa.Connection) -> bool:
    """A later release has migrated it, and this code runs on it all the same."""
    expected = expected_revision()
    found = MigrationContext.configure(connection).get_current_revision()
    return found not in (None, expected) and _runs_on_newer(connection, expected)


def _runs_on_newer(connection: sa.Connection, expected: str) -> bool:
    """What the newer schema's migrations say of this code."""
    if connection.scalar(sa.text("SELECT to_regclass('code_revisions')")) is None:
        return False
    known = sa.text("SELECT FROM code_revisions WHERE revision = :revision")
    return connection.execute(known, {"revision": expected}).first() is not None
