"""A database restored to an older state, and a replay from Kafka: everything is there again."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.programs import run_program
from tests.running import (
    Platform,
    Server,
    Trip,
    connect,
    fresh_database,
    running_server,
    wait_until,
)
from tests.test_erasure import dump
from tests.test_erasures import erasures_in
from tracking.settings import DatabaseSettings, KafkaSettings
from tracking.store.engine import create_engine


def tool(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program("after_restore.py", *arguments, environ=environ)


def administer(environ: dict[str, str], *statements: str, database: str = "postgres") -> None:
    connection = connect(environ, database)
    connection.autocommit = True
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


def seen(server: Server, trip: Trip) -> dict[str, Any]:
    """What the owner gets, without what a new track may number differently."""
    token = server.token(trip.owner_id, "owner")
    status, body, _ = server.get(f"/api/v1/tracking/{trip.booking_id}", token)
    data: dict[str, Any] = body["data"] if status == 200 else {"waypoints": []}
    numbers = ("id", "seq")
    data["waypoints"] = [
        {key: w[key] for key in w if key not in numbers} for w in data["waypoints"]
    ]
    return data


def abandoned(environ: dict[str, str]) -> int:
    connection = connect(environ)
    cursor = connection.cursor()
    cursor.execute("SELECT count(*) FROM booking_facts WHERE kind = 'abandoned'")
    (count,) = cursor.fetchone() or (None,)
    connection.close()
    return int(count)


def has(server: Server, trip: Trip, count: int, status: str) -> bool:
    data = seen(server, trip)
    return len(data["waypoints"]) == count and data["status"] == status


def test_after_a_restore_and_a_replay_everything_is_there_again_in_new_epochs(
    environ: dict[str, str], tmp_path: Path
) -> None:
    name = f"test-{uuid4().hex[:12]}"
    backup = f"backup_{uuid4().hex[:12]}"
    before, early = Trip(), Trip()
    with fresh_database(environ) as own:
        database = own["DB_NAME"]
        own = {**own, "KAFKA_TOPIC_PREFIX": name, "KAFKA_GROUP_ID": name}
        platform = Platform(own["KAFKA_BROKERS"], name)
        with running_server(own, tmp_path / "log", **own) as server:
            platform.accept(before)
            for second in range(3):
                platform.update(before, second)
            platform.update(early, 0)  # its acceptance comes after the backup
            wait_until(lambda: has(server, before, 3, "active"), "the state of the backup")
            wait_until(
                lambda: server.metric("tracking_events_total", outcome="parked") == 1, "parked"
            )
        began = datetime.now(UTC)
        administer(own, f"CREATE DATABASE {backup} TEMPLATE {database}")
        with running_server(own, tmp_path / "log", **own) as server:
            for second in (5, 3, 4):
                platform.update(before, second)
            platform.deliver(before, before.at(60))
            platform.accept(early)
            platform.update(early, 1)
            wait_until(lambda: has(server, before, 6, "completed"), "the end of one")
            wait_until(lambda: has(server, early, 2, "active"), "the beginning of the other")
            expected = seen(server, before), seen(server, early)
            busy = tool(own, "--since", began.isoformat())
            assert (busy.returncode, "is the service stopped?" in busy.stderr) == (1, True)

        administer(
            own,
            f"DROP DATABASE {database} WITH (FORCE)",
            f"CREATE DATABASE {database} TEMPLATE {backup}",
        )
        administer(  # the backup is two days old
            own,
            "UPDATE tracks SET updated_at = now() - interval '2 days'",
            "UPDATE parked_updates SET parked_at = now() - interval '2 days'",
            database=database,
        )
        tried = tool(own, "--since", began.isoformat(), "--dry-run")
        done = tool(own, "--since", began.isoformat())
        assert (tried.returncode, done.returncode) == (0, 0), done.stderr
        assert tried.stdout.startswith(f"{name}.tracking.erasures: 0 erasures\n")
        renewed = "0 erasures are applied again\n1 tracks have a new epoch\n"
        assert done.stdout == tried.stdout + renewed
        with running_server(own, tmp_path / "log", **own) as server:
            wait_until(lambda: has(server, before, 6, "completed"), "one is whole again")
            wait_until(lambda: has(server, early, 2, "active"), "so is the other")
            found = seen(server, before), seen(server, early)
            assert abandoned(own) == 0
        platform.close()
        administer(own, f"DROP DATABASE {backup}")
    for old, new in zip(expected, found, strict=True):
        assert old.pop("epoch") != new.pop("epoch")
        old["id"], old["seq"] = new["id"], new["seq"]
        assert new == old


@pytest.mark.parametrize("program", ["after_restore.py", "dead_letters.py list"])
@pytest.mark.parametrize("time", ["2026-11-24T00:00", "yesterday"])
def test_a_time_without_its_offset_is_rejected_with_what_to_write(program: str, time: str) -> None:
    done = run_program(*program.split(), "--since", time, environ={})
    assert done.returncode == 2
    assert f"{time!r}" in done.stderr
    assert "write 2026-11-24T02:00Z or 2026-11-24T09:00+07:00" in done.stderr


def test_what_was_erased_since_the_backup_is_erased_again_and_no_replay_brings_it_back(
    environ: dict[str, str], tmp_path: Path
) -> None:
    name = f"test-{uuid4().hex[:12]}"
    backup = f"backup_{uuid4().hex[:12]}"
    kept, old, runners, new = Trip(), Trip(), Trip(), Trip()
    with fresh_database(environ) as own:
        database = own["DB_NAME"]
        own = {**own, "KAFKA_TOPIC_PREFIX": name, "KAFKA_GROUP_ID": name}
        platform = Platform(own["KAFKA_BROKERS"], name)

        def drive(server: Server, trip: Trip) -> None:
            platform.accept(trip)
            platform.update(trip, 1)
            platform.update(trip, 2, booking_id=None)
            platform.deliver(trip, trip.at(60))
            wait_until(lambda: has(server, trip, 2, "completed"), "the trip")

        with running_server(own, tmp_path / "log", **own) as server:
            for trip in (kept, old, runners):
                drive(server, trip)
        began = datetime.now(UTC) - timedelta(hours=1)
        administer(own, f"CREATE DATABASE {backup} TEMPLATE {database}")
        with running_server(own, tmp_path / "log", **own) as server:
            drive(server, new)
            for who in (("--booking", old.booking_id), ("--booking", new.booking_id),
                        ("--runner", runners.runner_id)):  # fmt: skip
                done = run_program("erase.py", *map(str, who), environ=own)
                assert done.returncode == 0, done.stderr
            settings = KafkaSettings.from_environment(own)
            wait_until(lambda: len(erasures_in(settings)) == 3, "Kafka has them")
        administer(
            own,
            f"DROP DATABASE {database} WITH (FORCE)",
            f"CREATE DATABASE {database} TEMPLATE {backup}",
        )
        engine = create_engine(DatabaseSettings.from_environment(own), name="tests")
        assert str(old.owner_id) in dump(engine)
        # With the prefix of another deployment nothing of it is seen: nothing is done.
        since = ("--since", began.isoformat())
        refused = tool({**own, "KAFKA_TOPIC_PREFIX": f"{name}-other"}, *since)
        assert (refused.returncode, "--without-erasures" in refused.stderr) == (3, True)
        assert "new epoch" not in refused.stdout
        done = tool(own, *since)
        assert (done.returncode, "3 erasures are applied again" in done.stdout) == (0, True)
        gone = {old.owner_id, old.runner_id, new.owner_id, new.runner_id, runners.runner_id}

        def found() -> list[UUID]:
            text = dump(engine)
            return [each for each in gone if str(each) in text]

        assert found() == []
        with running_server(own, tmp_path / "log", **own) as server:
            # Of two trips four events each, of the runner's his two updates.
            wait_until(
                lambda: server.metric("tracking_events_total", outcome="erased") == 10, "refused"
            )
            assert found() == []
            assert has(server, kept, 2, "completed")
            assert has(server, runners, 0, "completed")
        engine.dispose()
        platform.close()
        administer(own, f"DROP DATABASE {backup}")
