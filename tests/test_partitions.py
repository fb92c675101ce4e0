"""tracking.store.partitions on a real PostGIS."""

import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from tracking.store import partitions
from tracking.store.partitions import Partitions
from tracking.store.statements import transaction


def names(engine: sa.Engine) -> set[str]:
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'waypoints'::regclass"
        )
        return {name for (name,) in cursor}


def at(year: int, month: int, day: int = 15) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_each_month_that_is_asked_for_is_there_once(own_engine: sa.Engine) -> None:
    before = names(own_engine)
    with transaction(own_engine) as cursor:
        partitions.ensure(cursor, [at(1999, 12, 31), at(2001, 1, 1), at(1999, 12, 1)])
        partitions.ensure(cursor, [at(1999, 12, 2)])
    assert names(own_engine) - before == {"waypoints_y1999m12", "waypoints_y2001m01"}


def test_the_next_months_are_there_before_they_begin(own_engine: sa.Engine) -> None:
    before = names(own_engine)
    partitions.ensure_ahead(own_engine, at(2041, 11))
    assert names(own_engine) - before == {
        "waypoints_y2041m11", "waypoints_y2041m12", "waypoints_y2042m01", "waypoints_y2042m02",
    }  # fmt: skip


def test_by_day_each_day_that_is_asked_for_is_there_once(own_engine: sa.Engine) -> None:
    before = names(own_engine)
    by_day = Partitions(by_day=True)
    with transaction(own_engine) as cursor:
        by_day.ensure(cursor, [at(1999, 12, 31), at(2000, 2, 29), at(1999, 12, 31)])
        by_day.ensure(cursor, [at(2000, 1, 1)])
    made = {"waypoints_y1999m12d31", "waypoints_y2000m02d29", "waypoints_y2000m01d01"}
    assert names(own_engine) - before == made
    with transaction(own_engine) as cursor:
        Partitions(by_day=True).ensure(cursor, [at(1999, 12, 31)])
    assert names(own_engine) - before == made


def test_the_next_two_weeks_are_there_before_they_begin(own_engine: sa.Engine) -> None:
    before = names(own_engine)
    partitions.ensure_ahead(own_engine, at(2041, 2, 20), by_day=True)
    made = names(own_engine) - before
    assert len(made) == 15
    assert {"waypoints_y2041m02d20", "waypoints_y2041m02d28", "waypoints_y2041m03d06"} <= made


def test_a_day_of_a_month_that_is_there_stays_with_the_month(own_engine: sa.Engine) -> None:
    """... and a month that has days goes on by days: so the setting may change at any time."""
    by_month, by_day = Partitions(), Partitions(by_day=True)
    before = names(own_engine)
    with transaction(own_engine) as cursor:
        by_month.ensure(cursor, [at(1999, 11)])
        by_day.ensure(cursor, [at(1999, 11, 30), at(1999, 12, 1)])
        by_month.ensure(cursor, [at(1999, 12, 2), at(2000, 1, 2)])
        by_month.ensure(cursor, [at(1999, 12, 3), at(2000, 1, 3)])
        partitions.ensure(cursor, [at(1999, 12, 4)])
        by_day.ensure(cursor, [at(1999, 11, 29), at(2000, 1, 31)])
    days = {f"waypoints_y1999m12d0{day}" for day in range(1, 5)}
    assert names(own_engine) - before == {"waypoints_y1999m11", "waypoints_y2000m01", *days}
    partitions.ensure_ahead(own_engine, at(1999, 12, 20))  # back to months
    assert "waypoints_y1999m12d31" in names(own_engine)


def test_each_partition_holds_just_its_span(own_engine: sa.Engine) -> None:
    with transaction(own_engine) as cursor:
        Partitions(by_day=True).ensure(cursor, [at(1999, 12, 31)])
        Partitions().ensure(cursor, [at(2000, 1, 1)])
        cursor.execute(
            "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class"
            " WHERE relname IN ('waypoints_y1999m12d31', 'waypoints_y2000m01') ORDER BY 1"
        )
        found = dict(cursor.fetchall())
    assert found == {
        "waypoints_y1999m12d31":
            "FOR VALUES FROM ('1999-12-31 00:00:00+00') TO ('2000-01-01 00:00:00+00')",
        "waypoints_y2000m01":
            "FOR VALUES FROM ('2000-01-01 00:00:00+00') TO ('2000-02-01 00:00:00+00')",
    }  # fmt: skip


@pytest.mark.parametrize("by_day", [False, True])
def test_two_processes_may_differ_in_the_setting(own_engine: sa.Engine, by_day: bool) -> None:
    errors = together(own_engine, Partitions(by_day), Partitions(not by_day))
    assert errors == []
    made = {name for name in names(own_engine) if "y1998" in name}
    assert made == {"waypoints_y1998m05d15" if by_day else "waypoints_y1998m05"}


def test_two_processes_may_make_the_same_month(own_engine: sa.Engine) -> None:
    errors = together(own_engine, Partitions(), Partitions())
    assert errors == []
    assert "waypoints_y1998m05" in names(own_engine)


def test_what_a_failed_transaction_made_is_made_again(own_engine: sa.Engine) -> None:
    one = Partitions()
    with transaction(own_engine) as cursor:
        one.ensure(cursor, [at(1998, 5)])
        cursor.execute("ROLLBACK; BEGIN")
    one.forget()
    with transaction(own_engine) as cursor:
        one.ensure(cursor, [at(1998, 5)])
    assert "waypoints_y1998m05" in names(own_engine)


def together(engine: sa.Engine, first: Partitions, second: Partitions) -> list[Exception]:
    """The second one begins while the first has not committed; what went wrong."""
    errors: list[Exception] = []
    first_made, second_begun = threading.Event(), threading.Event()

    def other() -> None:
        try:
            first_made.wait(30)
            with transaction(engine) as cursor:
                second_begun.set()
                second.ensure(cursor, [at(1998, 5)])
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    with transaction(engine) as cursor:
        first.ensure(cursor, [at(1998, 5)])
        first_made.set()
        assert second_begun.wait(30)
    thread.join(30)
    return errors
