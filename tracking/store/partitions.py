"""The partitions of `waypoints`: there before they are needed, whatever the date.

By month, or by day for who stores so much that he wants to drop single days. What is there stays: a
day of a month that has a partition needs none, and a month that has days gets no partition of its
own. So the setting may be changed at any time, and processes may differ in it.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import sqlalchemy as sa
from psycopg2.extensions import cursor as Cursor

from tracking.store.statements import transaction

MONTHS_AHEAD: Final = 3
DAYS_AHEAD: Final = 14

_NAME: Final = re.compile(r"waypoints_y(\d{4,})m(\d\d)(?:d(\d\d))?")


class Partitions:
    """Which of them are known to be there; the one thread that stores batches calls."""

    def __init__(self, by_day: bool = False, keep: timedelta | None = None) -> None:
        """`keep`: what was recorded longer ago needs none; None: everything does."""
        self._by_day = by_day
        self._keep = keep
        self._known: set[str] = set()

    def forget(self) -> None:
        """After a transaction that failed: one may have been made and be gone again."""
        self._known.clear()

    def floor(self) -> datetime | None:
        """What was recorded before it is refused: its partition may have gone for its age."""
        return None if self._keep is None else datetime.now(UTC) - self._keep

    def ensure(self, cursor: Cursor, times: Collection[datetime]) -> None:
        """Make those that waypoints of these times (UTC) need, in the caller's transaction.

        It is committed, or `forget` is called.
        """
        first, last = min(times).date(), max(times).date()
        if (first.year, first.month) == (last.year, last.month) and _month(first) in self._known:
            return
        days = {first, last} if first == last else {each.date() for each in times}
        missing = {day for day in days if not self._has(day)}
        if not missing:
            return
        found = _found(cursor, missing)
        if not all(_month(day) in found or _day(day) in found for day in missing):
            # Two processes may miss the same one: the second one waits, and finds it made.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('waypoints partitions'))")
            found = _found(cursor, missing)
            found |= self._make(cursor, missing, found)
        self._known |= found

    def _has(self, day: date) -> bool:
        return _month(day) in self._known or _day(day) in self._known

    def _make(self, cursor: Cursor, days: Iterable[date], found: set[str]) -> set[str]:
        made = set()
        by_month = defaultdict(set)
        for day in days:
            by_month[day.replace(day=1)].add(day)
        for month, wanted in sorted(by_month.items()):
            if _month(month) in found:
                continue
            if self._by_day or any(name.startswith(f"{_month(month)}d") for name in found):
                missing = [day for day in sorted(wanted) if _day(day) not in found]
                made |= {_create(cursor, _day(day), day, _next_day(day)) for day in missing}
            else:
                made.add(_create(cursor, _month(month), month, _next_month(month)))
        return made


def ensure(cursor: Cursor, times: Collection[datetime]) -> None:
    """As `Partitions.ensure`, for single waypoints that move: of a month without any, the month."""
    Partitions().ensure(cursor, times)


def ensure_ahead(engine: sa.Engine, now: datetime, by_day: bool = False) -> None:
    """Today's and the next ones', so that nothing has to be made at midnight."""
    if by_day:
        times = [now + timedelta(days=n) for n in range(DAYS_AHEAD + 1)]
    else:
        first = now.year * 12 + now.month - 1
        months = range(first, first + MONTHS_AHEAD + 1)
        times = [datetime(m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in months]
        times += [now + timedelta(days=n) for n in range(DAYS_AHEAD + 1)]  # of a month with days
    with transaction(engine) as cursor:
        Partitions(by_day).ensure(cursor, times)


def _found(cursor: Cursor, days: Iterable[date]) -> set[str]:
    """Names of the months' partitions and of all their days' that are there.

    Not by to_regclass: it believes what this session found before it waited for a lock.
    """
    months = list({_month(day) for day in days})
    cursor.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid)"
        " AND left(relname, length(relname) - CASE WHEN relname ~ 'd[0-9]{2}$' THEN 3 ELSE 0 END)"
        " = ANY(%s)",
        (months,),
    )
    return {name for (name,) in cursor.fetchall() if _NAME.fullmatch(name)}


def span(name: str) -> tuple[datetime, datetime] | None:
    """From when to when (excluded) the partition of this name is; None if it is none of ours."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    year, month, day = (int(text or 1) for text in found.groups())
    begin = date(year, month, day)
    end = _next_month(begin) if found[3] is None else _next_day(begin)
    return _midnight(begin), _midnight(end)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _month(day: date) -> str:
    return f"waypoints_y{day.year:04}m{day.month:02}"


def _day(day: date) -> str:
    return f"{_month(day)}d{day.day:02}"


def _next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _next_day(day: date) -> date:
    return day + timedelta(days=1)


def _create(cursor: Cursor, name: str, begin: date, end: date) -> str:
    """Attached rather than created in place, so that readers of the table are not locked out."""
    cursor.execute(f"CREATE TABLE {name} (LIKE waypoints INCLUDING DEFAULTS)")
    cursor.execute(
        f"ALTER TABLE waypoints ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{begin.isoformat()} 00:00Z') TO ('{end.isoformat()} 00:00Z')"
    )
    return name
