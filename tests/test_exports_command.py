"""exports.py: the routes of all trips of some time, as files."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import exports
from tests.programs import run_program
from tests.reading import read
from tests.running import Trip
from tests.test_store_ingest import accepted, update
from tracking.store.ingest.batch import store_batch
from tracking.wire.exports import FORMATS

# A year in which no other test has a trip.
BEGIN = datetime(2019, 3, 1, tzinfo=UTC)


def run(database: dict[str, str], folder: Path, *more: str, days: int = 1) -> tuple[int, str]:
    done = run_program(
        "exports.py", "--since", BEGIN.isoformat(),
        "--until", (BEGIN + timedelta(days=days)).isoformat(), "--output", str(folder), *more,
        environ=database,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def trips(engine: sa.Engine) -> list[Trip]:
    with engine.begin() as connection:  # of the test before
        connection.execute(sa.text("DELETE FROM tracks WHERE started_at < '2020-01-01Z'"))
    found = [Trip(BEGIN + timedelta(hours=number)) for number in range(3)]
    for number, trip in enumerate(found):
        store_batch(engine, [accepted(trip), *[update(trip, n) for n in range(number + 2)]])
    return found


@pytest.mark.parametrize("ending", [*FORMATS])
def test_all_trips_of_some_time_are_written_and_those_only(
    database: dict[str, str], trips: list[Trip], tmp_path: Path, ending: str
) -> None:
    status, said = run(database, tmp_path / "new" / "folder", "--format", ending)
    assert status == 0, said
    assert "3 of 3 trips" in said
    for number, trip in enumerate(trips):
        path = tmp_path / "new" / "folder" / f"{trip.booking_id}_BK-1.{ending}"
        assert len(read(ending, path.read_bytes()).points) == number + 2
    assert len([*(tmp_path / "new" / "folder").iterdir()]) == 4


def test_a_second_run_writes_only_what_changed_or_was_cut(
    database: dict[str, str], engine: sa.Engine, trips: list[Trip], tmp_path: Path
) -> None:
    assert run(database, tmp_path, "--format", "csv")[0] == 0
    assert "3 of them unchanged" in run(database, tmp_path, "--format", "csv")[1]
    changed, cut, same = (tmp_path / f"{trip.booking_id}_BK-1.csv" for trip in trips)
    store_batch(engine, [update(trips[0], 5)])
    cut.write_bytes(b"half")
    before = same.stat().st_mtime_ns
    with (tmp_path / "exports.jsonl").open("ab") as index:
        index.write(b'{"file":"cu')
    status, said = run(database, tmp_path, "--format", "csv")
    assert (status, "1 of them unchanged" in said) == (0, True), said
    assert len(read("csv", changed.read_bytes()).points) == 3
    assert len(read("csv", cut.read_bytes()).points) == 3
    assert same.stat().st_mtime_ns == before
    assert "0 of them unchanged" in run(database, tmp_path, "--format", "csv", "--gap-s", "9")[1]


def test_without_an_end_or_a_folder_all_until_now_goes_into_exports(
    environ: dict[str, str], own_engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--since and --format, and nothing else."""
    now = datetime.now(UTC)
    past, to_come = Trip(now - timedelta(hours=1)), Trip(now + timedelta(hours=1))
    for trip in (past, to_come):
        store_batch(own_engine, [accepted(trip), update(trip, 1)])
    for name, value in {**environ, "DB_NAME": str(own_engine.url.database)}.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.chdir(tmp_path)
    arguments = ["exports.py", "--since", BEGIN.isoformat(), "--format", "csv"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert exports.main() == 0
    assert {path.name for path in (tmp_path / "exports").iterdir()} == {
        f"{past.booking_id}_BK-1.csv", "exports.jsonl",
    }  # fmt: skip


def test_what_is_wrong_is_said_with_its_exit_status(
    database: dict[str, str], trips: list[Trip], engine: sa.Engine, tmp_path: Path
) -> None:
    assert run(database, tmp_path, "--format", "shp")[0] == 2
    assert run(database, tmp_path, "--format", "csv", "--simplify-m", "1001")[0] == 2
    assert run(database, tmp_path, "--format", "csv", days=0)[0] == 2
    (tmp_path / "file").touch()
    assert run(database, tmp_path / "file", "--format", "csv")[0] == 2
    away = {**database, "DB_PORT": "1"}
    assert run(away, tmp_path, "--format", "csv")[0] == 1
    with engine.begin() as connection:  # a part of a route that is gone
        connection.execute(sa.text("DELETE FROM waypoints WHERE recorded_at < '2020-01-01Z'"))
    status, said = run(database, tmp_path, "--format", "csv")
    assert (status, "3 failed" in said) == (1, True)
    assert [path.name for path in tmp_path.glob("*.csv")] == []
