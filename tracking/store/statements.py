"""Transactions of few round trips: statements that travel together, and are planned once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import cursor as Cursor

# Tables grow, and a plan that was good for the empty one is not for ever.
PLANS_LAST_S: Final = 60.0


class Prepared(NamedTuple):
    """A statement that a connection plans once: planning takes longer than executing it."""

    name: str
    statement: str  # with $1, $2, ...
    call: str  # EXECUTE with as many %s


def prepared(name: str, statement: str) -> Prepared:
    """Of a statement with `%s::type` for its parameters."""
    begin, *rest = statement.split("%s")
    numbered = begin + "".join(f"${number}{text}" for number, text in enumerate(rest, 1))
    return Prepared(name, numbered, f"EXECUTE {name} ({', '.join(['%s'] * len(rest))})")


class _Plans:
    """What a connection has prepared."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._made_at = time.monotonic()

    def are_old(self) -> bool:
        return time.monotonic() - self._made_at > PLANS_LAST_S

    def forget(self) -> None:
        self.names.clear()
        self._made_at = time.monotonic()


class Statements(Cursor):
    """A cursor whose statements may wait for the next one, to save round trips.

    What `later` was given is sent in one message with the next statement whose result is read, or
    with the COMMIT. The server runs them one after the other, each with a snapshot of its own; an
    error in one is raised by the call that sent it.
    """

    _waiting: list[bytes]
    plans: _Plans

    def later(self, statement: str | Prepared, values: Any = None) -> None:
        """Execute it before whatever comes next; nobody reads its result."""
        if isinstance(statement, Prepared):
            statement = self._planned(statement)
        self._waiting = [*self._pending(), self.mogrify(statement, values)]

    def execute(self, statement: Any, values: Any = None) -> None:
        if isinstance(statement, Prepared):
            statement = self._planned(statement)
        if not self._pending():
            return super().execute(statement, values)
        return super().execute(self._with_waiting(self.mogrify(statement, values)))

    def _planned(self, statement: Prepared) -> str:
        if statement.name not in self.plans.names:
            self.plans.names.add(statement.name)
            self.later(f"PREPARE {statement.name} AS {statement.statement}")
        return statement.call

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        super().copy_expert(self._with_waiting(sql.encode()), file, size)

    def _pending(self) -> list[bytes]:
        return getattr(self, "_waiting", [])

    def _with_waiting(self, statement: bytes) -> bytes:
        sent = b";\n".join([*self._pending(), statement])
        self._waiting = []
        return sent


@contextmanager
def transaction(engine: sa.Engine, *, whole: bool = False) -> Iterator[Statements]:
    """One transaction, committed when the block ends well; errors come as SQLAlchemy's.

    For requests each statement is a transaction of its own (server.py): there a block has one, and
    a `whole` one is a bug. The driver's own cursor: batches go through COPY and multi-row
    statements. BEGIN and COMMIT are ours and cost no round trip: the driver would send each alone.
    """
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        try:
            assert not (whole and driver.autocommit), "each statement would be a transaction"
            if driver.autocommit:
                kind = driver.cursor_factory or Statements
                with driver.cursor(cursor_factory=kind) as cursor:
                    yield cursor
            else:
                plans = connection.connection.info.setdefault(_Plans, _Plans())
                with _our_own(driver, plans) as cursor:
                    cursor.later("BEGIN")
                    yield cursor
                    cursor.execute("COMMIT")
        except psycopg2.Error as error:
            raise _wrapped(connection, error) from error


@contextmanager
def _our_own(driver: Any, plans: _Plans) -> Iterator[Statements]:
    """The driver begins and ends no transactions meanwhile; none is left open."""
    driver.autocommit = True
    try:
        with driver.cursor(cursor_factory=Statements) as cursor:
            cursor.plans = plans
            if plans.are_old():
                cursor.later("DEALLOCATE ALL")
                plans.forget()
            yield cursor
    except BaseException:
        # On a connection that is gone this fails, and the error that matters is the first one.
        with suppress(psycopg2.Error), driver.cursor() as cursor:
            cursor.execute("ROLLBACK; DEALLOCATE ALL")  # which of them were made is not known
            plans.forget()
        raise
    finally:
        if not driver.closed:
            if driver.info.transaction_status == TRANSACTION_STATUS_IDLE:
                driver.autocommit = False
            else:
                driver.close()


def _wrapped(connection: sa.Connection, error: psycopg2.Error) -> sa.exc.DBAPIError:
    """As SQLAlchemy would have raised it; a connection that is gone leaves the pool."""
    driver = connection.connection.driver_connection
    gone = connection.dialect.is_disconnect(error, driver, None)  # type: ignore[arg-type]
    if gone:
        connection.invalidate(error)
    kind = sa.exc.OperationalError if isinstance(error, psycopg2.OperationalError) else None
    return (kind or sa.exc.DBAPIError)("", None, error, connection_invalidated=gone)
