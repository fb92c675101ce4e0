"""dev.services and the private servers: real ones, in directories of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from dev.private_kafka import PrivateKafka, archive_classes
from dev.private_postgres import PrivatePostgres
from dev.private_server import CHECKOUT
from dev.private_services import Services
from dev.services import NOT_RUNNING

KAFKA_ELSEWHERE = {"KAFKA_BROKERS": "kafka.example:9092"}
POSTGRES_ELSEWHERE = {"DB_HOST": "db.example", "DB_NAME": "theirs"}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Of a directory in which nothing was started yet."""
    services = Services(tmp_path_factory.mktemp("services"))
    yield services
    services.remove()


def command(services: Services, *arguments: str) -> list[str]:
    action, *rest = arguments
    program = [sys.executable, "-m", "dev.services", action]
    return [*program, "--dir", str(services.directory), *rest]


def environment(outside: dict[str, str] | None = None) -> dict[str, str]:
    """Ours without the services that this test itself may be running on."""
    theirs = ("DB_", "KAFKA_", "JWT_", "SERVICE_")
    ours = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(theirs) or key == "KAFKA_JVM_PERFORMANCE_OPTS"
    }
    return {**ours, **(outside or {})}


def call(
    services: Services, *arguments: str, outside: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(services, *arguments),
        cwd=CHECKOUT,
        env=environment(outside),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )


def succeeds(services: Services, *arguments: str, outside: dict[str, str] | None = None) -> None:
    done = call(services, *arguments, outside=outside)
    assert done.returncode == 0, done.stderr


@contextmanager
def running(services: Services, shell: str, **outside: str) -> Iterator[subprocess.Popen[str]]:
    """A `run` of a shell command, with its standard output to read from."""
    with subprocess.Popen(
        command(services, "run", "--", "sh", "-c", shell),
        cwd=CHECKOUT,
        env=environment(outside),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # if the test failed; or it would wait for ever


def answers(services: Services) -> bool:
    settings = services.settings()
    connection = psycopg2.connect(
        host=settings["DB_HOST"],
        port=settings["DB_PORT"],
        user=settings["DB_USER"],
        password=settings["DB_PASSWORD"],
        dbname=settings["DB_NAME"],
    )
    connection.close()
    host, port = settings["KAFKA_BROKERS"].split(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    return True


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_up_again_changes_nothing_and_after_kill_9_finds_other_ports(services: Services) -> None:
    succeeds(services, "up")
    settings, pids = services.settings(), (services.postgres.pid, services.kafka.pid)
    assert answers(services)
    assert services.env_file.stat().st_mode & 0o777 == 0o600
    assert len(settings["JWT_SECRET"]) == 64
    assert is_mapped(archive_classes(), services.kafka.pid)

    succeeds(services, "up")
    assert services.settings() == settings
    assert (services.postgres.pid, services.kafka.pid) == pids

    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: services.postgres.pid is None and services.kafka.pid is None)
    assert call(services, "status").returncode == NOT_RUNNING
    with listening(services.postgres.port), listening(services.kafka.port):
        succeeds(services, "up")
    succeeds(services, "status")
    assert answers(services)
    moved = {key for key, value in services.settings().items() if value != settings[key]}
    assert moved == {"DB_PORT", "KAFKA_BROKERS"}

    # Asked for with `up`, they stay when a command that used them ends.
    succeeds(services, "run", "--", "true")
    succeeds(services, "status")
    succeeds(services, "down")
    assert call(services, "status").returncode == NOT_RUNNING


def is_mapped(archive: Path, pid: int | None) -> bool:
    """Whether a broker took its classes from there; no Java does from an empty file."""
    return archive.stat().st_size == 0 or str(archive) in Path(f"/proc/{pid}/maps").read_text()


def listening(port: int) -> socket.socket:
    """Somebody else's program on a port that was ours."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_run_passes_settings_and_status_and_stops_what_it_started(services: Services) -> None:
    shell = "printenv DB_HOST DB_NAME KAFKA_BROKERS JWT_SECRET; exit 7"
    done = call(services, "run", "--", "sh", "-c", shell, outside=KAFKA_ELSEWHERE)
    secret = services.settings()["JWT_SECRET"]
    assert done.stdout.split() == ["127.0.0.1", "tracking_db", "kafka.example:9092", secret]
    assert done.returncode == 7
    assert services.postgres.pid is None


def test_servers_that_the_caller_has_are_used_and_none_is_started(services: Services) -> None:
    outside = {**KAFKA_ELSEWHERE, **POSTGRES_ELSEWHERE, "SERVICE_PORT": "8005"}
    shell = f"printenv {' '.join(outside)}; echo ${{DB_PASSWORD-none}}"
    done = call(services, "run", "--", "sh", "-c", shell, outside=outside)
    assert done.stdout.split() == [*outside.values(), "none"]
    assert done.stderr == ""
    assert services.postgres.pid is None


def test_the_last_of_several_runs_stops_the_services(services: Services) -> None:
    with running(services, "echo ready; exec sleep 60", **KAFKA_ELSEWHERE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        pid = services.postgres.pid

        succeeds(services, "run", "--", "true", outside=KAFKA_ELSEWHERE)
        assert services.postgres.pid == pid

        # Nor does `down` take them away from a running command.
        assert "still in use" in call(services, "down").stderr
        assert services.postgres.pid == pid

        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=60) == 128 + signal.SIGTERM
    assert services.postgres.pid is None


def test_a_signal_reaches_the_command_once_and_the_services_stop(services: Services) -> None:
    # Not a shell's trap: a signal that comes between two of its commands may wait for ever.
    told = """
import signal, sys
both = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
print("ready", flush=True)
while True:
    name = signal.Signals(signal.sigwait(both)).name
    print(name, flush=True)
    if name == "SIGTERM":
        sys.exit(3)
"""
    shell = f"exec {sys.executable} -c '{told}'"
    with running(services, shell, **KAFKA_ELSEWHERE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "SIGINT\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "SIGTERM\n"
        assert process.wait(timeout=60) == 3
    assert services.postgres.pid is None


def test_a_recorded_process_that_is_another_program_is_left_alone(tmp_path: Path) -> None:
    kafka = PrivateKafka(tmp_path / "kafka")
    kafka.directory.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (kafka.directory / "pid").write_text(f"{stranger.pid}\n")
        assert kafka.pid is None
        kafka.kill()
        kafka.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_a_paused_postgres_keeps_its_data_and_a_killed_one_its_commits(tmp_path: Path) -> None:
    with PrivatePostgres(tmp_path / "postgres", {"max_connections": "20"}) as postgres:
        assert postgres.psql("tracking_db", "SHOW max_connections") == "20\n"
        assert postgres.psql("tracking_db", "SHOW fsync") == "on\n"
        postgres.psql("tracking_db", "CREATE TABLE t AS SELECT 1 AS n")

        postgres.pause()
        with socket.create_connection(("127.0.0.1", postgres.port), timeout=5) as client:
            client.settimeout(0.3)
            client.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # "do you speak TLS?"
            with pytest.raises(TimeoutError):
                client.recv(1)
            postgres.resume()
            client.settimeout(5)
            assert client.recv(1) == b"N"

        port = postgres.port
        postgres.kill()
        postgres.start()
        assert postgres.port == port
        assert postgres.psql("tracking_db", "SELECT n FROM t") == "1\n"
    assert not postgres.directory.exists()
    assert not postgres.data.exists()


def test_what_prevents_a_start_is_shown(tmp_path: Path) -> None:
    postgres = PrivatePostgres(tmp_path / "postgres", {"shared_buffers": "a lot"})
    try:
        with pytest.raises(Exception, match='invalid value for parameter "shared_buffers"'):
            postgres.start()
    finally:
        postgres.remove()
