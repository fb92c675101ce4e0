"""The monthly partitions of `waypoints`: there before they are needed, whatever the date."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.store.statements import transaction

MONTHS_AHEAD: Final = 3


def ensure(cursor: Cursor, times: Collection[datetime], known: set[str] | None = None) -> None:
    """Make the partitions that waypoints of these times need, in the caller's transaction.

    `known` ones are not asked for, and are told what is there if the transaction is committed.
    """
    known = set() if known is None else known
    months = {(time.year, time.month) for time in (min(times), max(times))}
    if len(months) > 1:
        months = {(time.year, time.month) for time in times}
    names = {_name(year, month): (year, month) for year, month in months}
    if names.keys() <= known:
        return
    cursor.execute("SELECT n FROM unnest(%s) n WHERE to_regclass(n) IS NULL", (list(names),))
    for name in sorted(name for (name,) in cursor.fetchall()):
        _create(cursor, name, *names[name])
    known.update(names)


def ensure_ahead(engine: sa.Engine, now: datetime) -> None:
    """This month's and the next ones', so that nothing has to be made at midnight on the first."""
    first = now.year * 12 + now.month - 1
    months = range(first, first + MONTHS_AHEAD + 1)
    with transaction(engine) as cursor:
        ensure(cursor, [datetime(m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in months])


def _name(year: int, month: int) -> str:
    return f"waypoints_y{year:04}m{month:02}"


def _create(cursor: Cursor, name: str, year: int, month: int) -> None:
    """Attached rather than created in place, so that readers of the table are not locked out."""
    end_year, end_month = (year + 1, 1) if month == 12 else (year, month + 1)
    # Two processes may find the same month missing: the second one waits, and finds it made.
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('waypoints partitions'))")
    # Not to_regclass: it believes what this session found before it waited.
    cursor.execute("SELECT FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)", (name,))
    if cursor.fetchone() is not None:
        return
    cursor.execute(f"CREATE TABLE {name} (LIKE waypoints INCLUDING DEFAULTS)")
    cursor.execute(
        f"ALTER TABLE waypoints ATTACH PARTITION {name} FOR VALUES"
        f" FROM ('{year:04}-{month:02}-01 00:00Z') TO ('{end_year:04}-{end_month:02}-01 00:00Z')"
    )
