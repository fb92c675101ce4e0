"""A private PostgreSQL with PostGIS, without the distribution's cluster machinery."""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from dev.private_server import STOP_SECONDS, PrivateServer, ServiceError, group_of, say
from dev.processes import send_signal

# fsync stays on, as in production: the benches measure durable commits.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}

# Oldest on which the tests were run (Debian 12's).
OLDEST_VERSION = 15


class PrivatePostgres(PrivateServer):
    """A cluster in a directory. `settings` go over the defaults, as in postgresql.conf."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # the "fast" shutdown: sessions are ended, data is flushed
    user = "postgres"
    database = "tracking_db"

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self._settings = {**SETTINGS, **(settings or {})}
        self._password_file = self.directory / "password"

    @property
    def password(self) -> str:
        return self._password_file.read_text().strip()

    @cached_property
    def data(self) -> Path:
        """Under the directory, or in /var/tmp where the server's user could not reach that."""
        user = self._user()
        if user is None or _can_enter(user, self.directory):
            return self.directory / "data"
        name = hashlib.sha256(bytes(self.directory)).hexdigest()[:16]
        return Path("/var/tmp") / f"service-tracking-{name}"  # noqa: S108 - owner is checked

    def psql(self, database: str, sql: str) -> str:
        """Runs SQL as the superuser; returns unaligned rows."""
        argv = [str(self._programs / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]
        environment = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": database,
            "PGOPTIONS": "-c client_min_messages=warning",
        }
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise ServiceError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout

    def owner(self) -> int | None:
        """The user id that PostgreSQL's files must belong to, where that is not ours."""
        return self._user()

    def start(self) -> None:
        super().start()
        self._create_database()

    def remove(self) -> None:
        super().remove()
        shutil.rmtree(self.data, ignore_errors=True)

    def _create_database(self) -> None:
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{self.database}'"
        if not self.psql("postgres", exists):
            self.psql("postgres", f"CREATE DATABASE {self.database}")
        self.psql(self.database, "CREATE EXTENSION IF NOT EXISTS postgis")

    def _prepare(self) -> None:
        if self._user() is not None:
            self.directory.chmod(0o711)  # to be passed through; what is secret has its own mode
        if (self.data / "PG_VERSION").exists():
            self._check_owner()
            self._end_orphans()
            # A killed server's lock, with nobody left in the data. PostgreSQL itself would take
            # its process for a living one for as long as the parent has not reaped it.
            self._pid_file().unlink(missing_ok=True)
            return
        if self.data.parent != self.directory:
            say(f"user postgres cannot enter {self.directory}; its data goes to {self.data}")
        self._make_cluster()

    def _check_owner(self) -> None:
        """Everyone may write to the fallback's parent: a directory found there may be a trap."""
        owner = self.data.lstat().st_uid
        if owner != (self._user() or os.geteuid()):
            raise ServiceError(f"{self.name}: {self.data} belongs to user {owner}; remove it")

    def _end_orphans(self) -> None:
        """Children of a killed server end by themselves, but not while they wait for the disk;
        until then a new server refuses to start.
        """
        deadline = time.monotonic() + STOP_SECONDS
        while (orphans := _processes_in(self.data)) and time.monotonic() < deadline:
            for orphan in orphans:
                send_signal(orphan, signal.SIGKILL)
            time.sleep(0.05)
        if orphans:
            raise self._failure("has processes that outlived it and survive SIGKILL")

    def _make_cluster(self) -> None:
        """Made beside its place and then moved, so that one half made is never taken for whole."""
        half = self.data.with_name(self.data.name + ".half")
        for remains in (half, self.data):
            shutil.rmtree(remains, ignore_errors=True)
        half.mkdir(mode=0o700)
        self._hand_over(half)
        with tempfile.NamedTemporaryFile("w") as password:
            password.write(secrets.token_urlsafe(24))
            password.flush()
            self._hand_over(Path(password.name))
            self._initdb(half, Path(password.name))
            shutil.copyfile(password.name, self._password_file)
        self._password_file.chmod(0o600)
        half.rename(self.data)

    def _initdb(self, data: Path, password: Path) -> None:
        options = ["--username", self.user, "--auth=scram-sha-256", f"--pwfile={password}"]
        text = ["--encoding=UTF8", "--locale=C"]
        argv = [str(self._programs / "initdb"), "-D", str(data), *options, *text]
        user = self._user()
        with self.log.open("ab") as log:
            done = subprocess.run(
                argv,
                cwd="/",
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=user and group_of(user),
                extra_groups=None if user is None else [],
            )
        if done.returncode != 0:
            raise self._failure("could not make its data directory")

    def _hand_over(self, path: Path) -> None:
        user = self._user()
        if user is not None:
            os.chown(path, user, group_of(user))

    def _command(self) -> list[str]:
        settings = {**self._settings, "port": str(self.port)}
        argv = [str(self._programs / "postgres"), "-D", str(self.data)]
        return argv + [part for item in settings.items() for part in ("-c", "=".join(item))]

    def _mark(self) -> str:
        return str(self.data)

    def _pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _user(self) -> int | None:
        """PostgreSQL refuses to run as root, so there it gets the user its package made."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres").pw_uid
        except KeyError:
            return None  # PostgreSQL is not installed, which matters only to a start

    def _answers(self) -> bool:
        # The server's own word, on line 8 of its pid file.
        try:
            return self._pid_file().read_text().split("\n")[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    @cached_property
    def _programs(self) -> Path:
        """The newest installed server that has PostGIS; for existing data the one that made it."""
        try:
            made_by = (self.data / "PG_VERSION").read_text().strip()
        except OSError:
            made_by = None
        for programs, share in _installations():
            version = _version(programs)
            fits = version >= OLDEST_VERSION if made_by is None else str(version) == made_by
            if fits and (share / "extension" / "postgis.control").exists():
                return programs
        wanted = made_by or f"{OLDEST_VERSION} or newer"
        raise ServiceError(
            f"PostgreSQL {wanted} with PostGIS is not installed: `make setup` does that"
            + (f"; or remove {self.directory} to start with a newer one" if made_by else "")
        )


def _installations() -> list[tuple[Path, Path]]:
    """Directories of programs and of shared files, the newest first."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    found = [(bin, Path("/usr/share/postgresql") / bin.parent.name) for bin in debian]
    if pg_config := shutil.which("pg_config"):
        asked = [pg_config, "--bindir", "--sharedir"]
        done = subprocess.run(asked, capture_output=True, text=True)
        if done.returncode == 0:
            bindir, sharedir = done.stdout.splitlines()
            found.append((Path(bindir), Path(sharedir)))
    return [(bin, share) for bin, share in found if (bin / "initdb").exists()]


def _version(programs: Path) -> int:
    done = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True)
    number = done.stdout.removeprefix("postgres (PostgreSQL) ").split(".")[0].split()
    return int(number[0]) if number and number[0].isdigit() else 0


def _processes_in(data: Path) -> list[int]:
    """PostgreSQL's processes work in their data directory, and nobody else's do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == data and (
                process / "exe"
            ).readlink().name == "postgres":
                found.append(int(process.name))
        except OSError:
            pass  # ended meanwhile, or another user's
    return found


def _can_enter(user: int, directory: Path) -> bool:
    existing = next(d for d in (directory, *directory.parents) if d.exists())
    test = ["test", "-x", str(existing)]
    done = subprocess.run(test, cwd="/", user=user, group=group_of(user), extra_groups=[])
    return done.returncode == 0
