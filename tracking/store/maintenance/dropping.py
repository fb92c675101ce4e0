"""Partitions of `waypoints` go without a lock that ingest or readers would feel.

`DETACH … CONCURRENTLY` waits for those who read the partition, and nobody waits for it; a plain
`DROP` would let all of them queue behind it. It is three steps, and a process may die between them,
so each looks for what the one before has left.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.store.partitions import span

# Any number: the first process that locks it works, the others try again later.
RETENTION_LOCK: Final = 7_242_002
# For readers of the partition, or until the next round; nobody waits behind us meanwhile.
READERS_S: Final = 60
# What somebody else has detached, to keep it, has no such mark.
MARK: Final = "service-tracking: expired"

_CHILDREN: Final = """
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'waypoints'::regclass AND i.inhdetachpending = {pending} ORDER BY 1
"""
_MARKED: Final = sa.text(
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND NOT relispartition"
    " AND pg_table_is_visible(oid) AND obj_description(oid, 'pg_class') = :mark ORDER BY 1"
)


def bounds(cursor: Cursor) -> list[tuple[datetime, datetime]]:
    """From when to when (excluded) each partition is that is attached."""
    cursor.execute(_CHILDREN.format(pending="false"))
    return [found for (name,) in cursor.fetchall() if (found := span(name)) is not None]


@contextmanager
def only_one(engine: sa.Engine) -> Iterator[sa.Connection | None]:
    """A connection while no other process drops; None if one does. Dies with its lock."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        lock = {"lock": RETENTION_LOCK}
        if not connection.scalar(sa.text("SELECT pg_try_advisory_lock(:lock)"), lock):
            yield None
            return
        try:
            connection.exec_driver_sql(f"SET lock_timeout = '{READERS_S}s'")
            yield connection
        finally:
            with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
                connection.exec_driver_sql("RESET lock_timeout")
                connection.scalar(sa.text("SELECT pg_advisory_unlock(:lock)"), lock)


def drop_below(connection: sa.Connection, floor: datetime) -> list[str]:
    """Drop all that end at or before the floor; their names. Autocommit.

    Raises an OperationalError when somebody reads one of them for longer than READERS_S: then it is
    hidden from everybody else already, and the next round goes on there.
    """
    detach_below(connection, floor)
    dropped: list[str] = []
    for name in connection.scalars(_MARKED, {"mark": MARK}).all():
        if span(name) is not None:
            connection.exec_driver_sql(f"DROP TABLE {name}")
            dropped.append(name)
    return dropped


def detach_below(connection: sa.Connection, floor: datetime) -> None:
    """The first two steps: marked and out of `waypoints`, what the last process has begun first."""
    for name in _children(connection, pending=True):
        connection.exec_driver_sql(f"ALTER TABLE waypoints DETACH PARTITION {name} FINALIZE")
    for name in _children(connection, pending=False):
        found = span(name)
        if found is not None and found[1] <= floor:
            connection.exec_driver_sql(f"COMMENT ON TABLE {name} IS '{MARK}'")
            connection.exec_driver_sql(
                f"ALTER TABLE waypoints DETACH PARTITION {name} CONCURRENTLY"
            )


def _children(connection: sa.Connection, *, pending: bool) -> list[str]:
    statement = sa.text(_CHILDREN.format(pending=str(pending).lower()))
    return list(connection.scalars(statement))
