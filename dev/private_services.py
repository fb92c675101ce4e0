"""The private PostgreSQL and Kafka of one checkout, and which commands use them now."""

from __future__ import annotations

import fcntl
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dev.private_kafka import PrivateKafka
from dev.private_postgres import PrivatePostgres
from dev.private_server import PrivateServer, free_port, say

# What ends a command.
ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Services:
    """Both servers of one directory, and who needs them. Commands run at the same time agree
    through files in it: `lock` for starting and stopping, `lease` for using, `keep` for `up`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.postgres = PrivatePostgres(self.directory / "postgres")
        self.kafka = PrivateKafka(self.directory / "kafka")
        self.env_file = self.directory / "env"
        self._keep = self.directory / "keep"

    def up(self) -> None:
        """Both, until `down`."""
        with self._alone():
            self._start(self.postgres, self.kafka)
            self._keep.touch()

    def down(self, *, force: bool = False) -> bool:
        """False if they stay up for now, because another command uses them and stops them later."""
        with self._alone():
            self._keep.unlink(missing_ok=True)
            if not force and self._is_leased():
                return False
            self._stop()
            return True

    def remove(self) -> None:
        """Stops both, whoever uses them, and deletes their data."""
        with self._alone():
            self._keep.unlink(missing_ok=True)
            self.postgres.remove()
            self.kafka.remove()
            self.env_file.unlink(missing_ok=True)

    @contextmanager
    def leased(self, outside: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The services are up for the length of the block; gives the environment to use them.

        What `outside`, the caller's environment, says about a server of its own goes through.
        """
        wanted: list[PrivateServer] = []
        wanted += [] if outside.get("DB_HOST") else [self.postgres]
        wanted += [] if outside.get("KAFKA_BROKERS") else [self.kafka]
        with self._lease_file() as lease:
            try:
                with self._alone():
                    fcntl.flock(lease, fcntl.LOCK_SH)
                    self._start(*wanted)
                yield self._environment(outside)
            finally:
                with _undisturbed(), self._alone():
                    fcntl.flock(lease, fcntl.LOCK_UN)
                    if not self._keep.exists() and not self._is_leased():
                        self._stop()

    def settings(self) -> dict[str, str]:
        """What `.dev/env` holds."""
        try:
            lines = self.env_file.read_text().splitlines()
        except FileNotFoundError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _environment(self, outside: Mapping[str, str]) -> dict[str, str]:
        settings = self.settings()
        if outside.get("DB_HOST"):
            settings = {k: v for k, v in settings.items() if not k.startswith("DB_")}
        # The private servers' whereabouts hold together; any other setting is the caller's choice.
        ours = {k: v for k, v in settings.items() if _is_whereabouts(k) or not outside.get(k)}
        if outside.get("KAFKA_BROKERS"):
            ours.pop("KAFKA_BROKERS", None)
        return {**outside, **ours}

    def _start(self, *servers: PrivateServer) -> None:
        with ThreadPoolExecutor() as pool:  # leaving it waits for all
            starts = [pool.submit(_start, server) for server in servers]
        for start in starts:
            start.result()
        self._write_settings(servers)

    def _stop(self) -> None:
        with ThreadPoolExecutor() as pool:
            stops = [pool.submit(_stop, server) for server in (self.postgres, self.kafka)]
        for stop in stops:
            stop.result()

    def _write_settings(self, started: Sequence[PrivateServer]) -> None:
        """Secrets and the server's port are made once; what did not start keeps its lines."""
        settings = {
            "KAFKA_TOPIC_PREFIX": "kilat-pet-runner",
            "SERVICE_PORT": str(free_port()),
            "JWT_SECRET": secrets.token_hex(32),
            **self.settings(),
        }
        if self.postgres in started:
            settings |= {
                "DB_HOST": "127.0.0.1",
                "DB_PORT": str(self.postgres.port),
                "DB_USER": self.postgres.user,
                "DB_PASSWORD": self.postgres.password,
                "DB_NAME": self.postgres.database,
            }
        if self.kafka in started:
            settings["KAFKA_BROKERS"] = self.kafka.brokers
        draft = self.env_file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text("".join(f"{key}={value}\n" for key, value in sorted(settings.items())))
        draft.rename(self.env_file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time starts and stops; the next waits here."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _lease_file(self) -> Iterator[int]:
        """The kernel gives a lease back when its holder dies, however that happens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lease").open("w") as file:
            yield file.fileno()

    def _is_leased(self) -> bool:
        with self._lease_file() as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An impatient second Ctrl-C waits until the servers have stopped, instead of leaving them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_whereabouts(key: str) -> bool:
    return key.startswith("DB_") or key == "KAFKA_BROKERS"


def _start(server: PrivateServer) -> None:
    if server.pid is not None:
        server.start()  # waits until it answers
        return
    begin = time.monotonic()
    server.start()
    seconds = time.monotonic() - begin
    say(f"{server.name} is up at 127.0.0.1:{server.port} after {seconds:.1f} s ({server.log})")


def _stop(server: PrivateServer) -> None:
    if server.pid is None:
        return
    begin = time.monotonic()
    server.stop()
    say(f"{server.name} stopped in {time.monotonic() - begin:.1f} s")
