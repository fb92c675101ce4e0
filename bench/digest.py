"""A digest of every table that events change: the same after a replay."""

from hashlib import sha256
from typing import Any, Final

from psycopg2.extensions import connection as Connection

TABLES: Final = ("tracks", "waypoints", "booking_facts", "assignments", "outbox", "parked_updates")
# What differs from one replay to the next and means nothing.
LEFT_OUT: Final = ["metadata_current", "id"]


def digests(connection: Connection) -> dict[str, str]:
    """By table."""
    return {name: _digest(connection, name) for name in TABLES}


def _digest(connection: Connection, table: str) -> str:
    digest = sha256()
    with connection.cursor() as cursor:
        cursor.execute("SELECT column_name FROM information_schema.columns"
                       " WHERE table_name = %s AND column_name <> ALL(%s)"
                       " ORDER BY 1", (table, LEFT_OUT))  # fmt: skip
        columns = ", ".join(column for (column,) in cursor.fetchall())
        query = f"SELECT {columns} FROM {table} ORDER BY {columns}"
        cursor.copy_expert(f"COPY ({query}) TO STDOUT", _Digesting(digest))
    return digest.hexdigest()


class _Digesting:
    """What COPY writes to."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: str | bytes) -> int:
        self._digest.update(data if isinstance(data, bytes) else data.encode())
        return len(data)
