"""tracking.store.partitions on a real PostGIS."""

import threading
from datetime import UTC, datetime

import sqlalchemy as sa

from tracking.store import partitions
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


def test_two_processes_may_make_the_same_month(own_engine: sa.Engine) -> None:
    errors: list[Exception] = []
    first_made, second_begun = threading.Event(), threading.Event()

    def second() -> None:
        try:
            first_made.wait(30)
            with transaction(own_engine) as cursor:
                second_begun.set()
                partitions.ensure(cursor, [at(1998, 5)])
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    with transaction(own_engine) as cursor:
        partitions.ensure(cursor, [at(1998, 5)])
        first_made.set()
        assert second_begun.wait(30)
    thread.join(30)
    assert errors == []
    assert "waypoints_y1998m05" in names(own_engine)
