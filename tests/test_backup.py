"""docs/backup.md: a real pgBackRest restores to a moment, and Kafka brings what came since."""

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition

from dev.private_postgres import PrivatePostgres
from tests.programs import run_program
from tests.running import (
    CHECKOUT,
    Platform,
    connect,
    migrate,
    running_server,
    wait_until,
)
from tests.served import stored_trip, track, wait_seq

CONFIGURATION = CHECKOUT / "deploy" / "pgbackrest" / "pgbackrest.conf"
PROGRAM = shutil.which("pgbackrest")
Ledger = Counter[tuple[str, datetime]]


class Backups:
    """pgBackRest with the shipped configuration, in a folder that PostgreSQL's user can enter."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "pgbackrest.conf"
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        for name in ("repository", "log", "lock", "socket", "restored"):
            self.own(folder / name).chmod(0o700)

    def own(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path

    def server(self) -> PrivatePostgres:
        """As docs/backup.md sets it up."""
        command = f"{PROGRAM} --config={self._file} --stanza=tracking archive-push %p"
        return PrivatePostgres(
            self.folder / "first",
            {
                "archive_mode": "on",
                "archive_command": command,
                "unix_socket_directories": str(self.folder / "socket"),
            },
        )

    def configure(self, server: PrivatePostgres) -> None:
        text = CONFIGURATION.read_text()
        for name, value in (
            ("repo1-path", self.folder / "repository"),
            ("log-path", self.folder / "log"),
            ("lock-path", self.folder / "lock"),
            ("pg1-path", server.data),
            ("pg1-port", server.port),
            ("pg1-socket-path", self.folder / "socket"),
        ):
            text, changed = re.subn(rf"^{name}=.*", f"{name}={value}", text, flags=re.MULTILINE)
            assert changed == 1, name
        self._file.write_text(text)

    def run(self, password: str, *arguments: str) -> None:
        done = subprocess.run(
            [PROGRAM or "", f"--config={self._file}", "--stanza=tracking", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
            env={"PATH": os.environ["PATH"], "PGPASSWORD": password},
            user=self._user and self._user.pw_uid, group=self._user and self._user.pw_gid,
            extra_groups=None if self._user is None else [],
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.fixture
def backups() -> Iterator[Backups]:
    if PROGRAM is None:
        pytest.skip("pgbackrest is not installed: `dev/setup.sh tests` does that")
    folder = Path(tempfile.mkdtemp(prefix="service-tracking-backup-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield Backups(folder)
    shutil.rmtree(folder)


def environment(environ: dict[str, str], server: PrivatePostgres) -> dict[str, str]:
    return {
        **environ, "DB_HOST": "127.0.0.1", "DB_PORT": str(server.port), "DB_USER": server.user,
        "DB_PASSWORD": server.password, "DB_NAME": server.database,
    }  # fmt: skip


def sent(brokers: str, topic: str) -> Ledger:
    """What Kafka holds: each update once, whatever comes twice."""
    consumer = KafkaConsumer(bootstrap_servers=brokers, group_id=None)
    places = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(places)
    consumer.seek_to_beginning()
    ends, found = consumer.end_offsets(places), set()
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                event = json.loads(record.value)["data"]
                time = datetime.fromisoformat(event["timestamp"][:26] + "+00:00")
                found.add((event["booking_id"], time))
    consumer.close()
    return Counter(found)


def stored(environ: dict[str, str]) -> Ledger:
    """What the table holds, with how often."""
    connection = connect(environ)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.booking_id::text, w.reported_at, count(*) FROM waypoints w"
            " JOIN tracks t ON t.id = w.track_id GROUP BY 1, 2"
        )
        found = Counter({(booking_id, time): count for booking_id, time, count in cursor})
    connection.close()
    return found


def one(environ: dict[str, str], statement: str) -> object:
    connection = connect(environ)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
        (value,) = cursor.fetchone() or (None,)
    connection.close()
    return value


def test_restored_to_a_moment_and_replayed_the_ledger_is_balanced(
    environ: dict[str, str], backups: Backups, tmp_path: Path
) -> None:
    name = f"test-{uuid4().hex[:12]}"
    topics = {"KAFKA_TOPIC_PREFIX": name, "KAFKA_GROUP_ID": name}
    platform = Platform(environ["KAFKA_BROKERS"], name)
    with backups.server() as first:
        own = {**environment(environ, first), **topics}
        backups.configure(first)
        for command in ("stanza-create", "check"):
            backups.run(first.password, command)
        migrate(own)
        with running_server(own, tmp_path / "log", **topics) as server:
            before = stored_trip(server, platform, 20)
            backups.run(first.password, "--type=full", "backup")
            stopped = one(own, "SELECT now() + interval '2 seconds'")
            between = stored_trip(server, platform, 20)
            for second in range(20, 40):
                platform.update(before, second)
            wait_seq(server, before, 40)
            # pgBackRest knows the second in which a backup stopped: the moment is behind it.
            wait_until(lambda: one(own, f"SELECT now() > '{stopped}'"), "the next second")
            moment = one(own, "SELECT now()")
            assert isinstance(moment, datetime)
            kept = stored(own)
            after = stored_trip(server, platform, 20)
            platform.deliver(before, before.at(60))
            wait_until(lambda: track(server, before)["status"] == "completed", "completed")
            epochs = {trip: track(server, trip)["epoch"] for trip in (before, between)}
        assert stored(own) == sent(own["KAFKA_BROKERS"], f"{name}.runner.events")
        segment = one(own, "SELECT pg_walfile_name(pg_switch_wal())")
        archived = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver"
        wait_until(lambda: one(own, archived), "the log is in the archive")
        password = first.password

    # Nobody is let in before it has read the log up to the moment.
    restored = PrivatePostgres(backups.folder / "restored", {"hot_standby": "off"})
    target = ["--type=time", f"--target={moment.isoformat(' ')}", "--target-action=promote"]
    backups.run(password, f"--pg1-path={backups.own(restored.data)}", *target, "restore")
    (restored.directory / "password").write_text(password)
    with restored:
        own = {**environment(environ, restored), **topics}
        assert stored(own) == kept
        since = (moment - timedelta(minutes=1)).isoformat()
        done = run_program("after_restore.py", "--since", since, environ=own)
        assert (done.returncode, "2 tracks have a new epoch" in done.stdout) == (0, True), done
        with running_server(own, tmp_path / "log", **topics) as server:
            wait_until(lambda: track(server, before)["status"] == "completed", "the end again")
            for trip, seq in ((before, 40), (between, 20), (after, 20)):
                wait_seq(server, trip, seq)
            assert all(track(server, trip)["epoch"] != epochs[trip] for trip in epochs)
            whole = sent(own["KAFKA_BROKERS"], f"{name}.runner.events")
            wait_until(lambda: stored(own).total() >= whole.total(), "all is read again")
            assert stored(own) == whole
            assert len(whole) == 80
    platform.close()
