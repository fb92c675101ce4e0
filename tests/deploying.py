"""What tests/test_deployment.py deploys and asks: releases, settings, packages, clients."""

import hashlib
import importlib.metadata
import itertools
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self
from uuid import UUID

from dev.private_server import free_port
from dev.tokens import access_token
from tests.machine import Machine, tree
from tests.resuming import Viewer
from tests.running import CHECKOUT, Platform, Trip, stored_heads, wait_until
from tracking.store.engine import expected_revision

DEPLOY = CHECKOUT / "deploy"
# What is installed: a copy, since somebody may be writing in the checkout.
SOURCE = "/srv/checkout"
OPT, ETC = "/opt/service-tracking", "/etc/service-tracking"
BLUE, GREEN = "service-tracking-live@blue.service", "service-tracking-live@green.service"
INTAKES = ("service-tracking-ingest@1.service", "service-tracking-ingest@2.service")
PYTHON = "/usr/bin/python3"
CLIENTS = 4
# Between two requests of one of them: the machine is for the service, too.
PAUSE_S = 0.05


class Deployed:
    """The service on that machine, and the platform around it."""

    def __init__(self, machine: Machine, environ: dict[str, str], release: str) -> None:
        self.machine, self.environ, self.release = machine, environ, release
        self.port, self.management_port = free_port(), free_port()
        self.platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
        self.before = self.traces()

    def traces(self) -> set[str]:
        """What an installation may leave where systemd and programs look."""
        folders = ("/etc/systemd", "/opt", "/var/lib/private", "/usr/local")
        found = {f"{top}/{name}" for top in folders for name in tree(self.machine.path(top))}
        # systemd's own folders of links, which `systemctl enable` makes.
        return {path for path in found if not path.endswith(".target.wants")}

    def get(self, path: str, token: str = "", port: int = 0) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", port or self.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stores_and_shows(self) -> None:
        """An event that comes in now is answered to its owner."""
        trip = Trip()
        token = access_token(self.environ["JWT_SECRET"], trip.owner_id, "owner")
        self.platform.accept(trip)
        self.platform.update(trip, 1)
        path = f"/api/v1/tracking/{trip.booking_id}"
        wait_until(
            lambda: b'"seq": 1' in (b := self.get(path, token)[1]) or b'"seq":1' in b, "shown"
        )

    def is_active(self, *units: str) -> list[bool]:
        return [self.machine.shows(unit, "ActiveState") == ["active"] for unit in units]

    def runs(self, unit: str) -> str:
        """The release whose code the unit's process runs."""
        pid = self.machine.main_pid(unit)
        return (
            self.machine.run("readlink", f"/proc/{pid}/cwd", status=0).stdout.strip().split("/")[-1]
        )


def fill_in(deployed: Deployed) -> None:
    machine, environ = deployed.machine, deployed.environ
    names = (
        "DB_HOST",
        "DB_PORT",
        "DB_NAME",
        "KAFKA_BROKERS",
        "KAFKA_TOPIC_PREFIX",
        "KAFKA_GROUP_ID",
    )
    own = {
        "DB_USER": f"{environ['DB_NAME']}_service",
        "RELAY_PARTITIONS": "4",
        # All clients come from one address, and a few users watch.
        **dict.fromkeys(("JOINS_PER_SECOND", "REQUESTS_PER_SECOND", "MAX_VIEWERS_PER_USER"), "0"),
    }
    lines = [f"{name}={value}" for name, value in [*((n, environ[n]) for n in names), *own.items()]]
    machine.write(f"{ETC}/env", "\n".join(lines) + "\n", 0o640)
    machine.write(f"{ETC}/db_password", "for-service\n", 0o600)
    machine.write(f"{ETC}/jwt_secret", environ["JWT_SECRET"], 0o600)
    machine.write(f"{ETC}/migrations.env", f"MIGRATIONS_DB_USER={environ['DB_NAME']}_migrations\n")
    machine.write(f"{ETC}/migrations_db_password", "for-migrations\n", 0o600)
    for number in (1, 2):
        text = f"SERVICE_PORT={free_port()}\nMANAGEMENT_PORT=\n"
        machine.write(f"{ETC}/ingest-{number}.env", text)
    units = "/etc/systemd/system"
    for unit, port in (("", deployed.port), ("-management", deployed.management_port)):
        text = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n"
        machine.write(f"{units}/service-tracking{unit}.socket.d/port.conf", text)


def lend_packages(machine: Machine) -> None:
    """What pip would install, from the environment of these tests: a minute and the net are saved.

    Where /usr/bin/python3 is another Python they do not fit, and install.sh gets them itself.
    """
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True).stdout
    lock = (CHECKOUT / "requirements.lock").read_bytes()
    if version.split(".")[:2] != f"Python {sys.version}".split(".")[:2]:
        return
    digest = hashlib.sha256(version.encode() + lock).hexdigest()[:16]
    venv = f"{OPT}/venvs/{digest}"
    machine.run("mkdir", "-p", f"{OPT}/venvs", status=0)
    machine.run(PYTHON, "-m", "venv", "--without-pip", venv, status=0)
    (packages,) = machine.path(f"{venv}/lib").glob("python*/site-packages")
    for name in re.findall(r"^([\w-]+)==", lock.decode(), re.MULTILINE):
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                copy_with_bytecode(Path(str(file.locate())), packages / file)
    machine.run("touch", f"{venv}/.complete", status=0)


def copy_with_bytecode(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)  # with its time, by which the bytecode is recognised
    for each in source.parent.glob(f"__pycache__/{source.stem}.*.pyc"):
        (target.parent / "__pycache__").mkdir(exist_ok=True)
        shutil.copy2(each, target.parent / "__pycache__")


class Hammer:
    """Clients that ask as fast as they are answered, each time on a new connection."""

    def __init__(self, deployed: Deployed, paths: Sequence[str], token: str) -> None:
        self._deployed, self._paths, self._token = deployed, paths, token
        self.over = threading.Event()
        self.answered = 0
        self.failed: list[str] = []
        self.longest_s = 0.0

    def ask(self) -> None:
        for path in itertools.cycle(self._paths):
            if self.over.wait(PAUSE_S):
                return
            began = time.monotonic()
            try:
                status = self._deployed.get(path, self._token)[0]
            except (OSError, HTTPException) as error:
                took_s = time.monotonic() - began
                self.failed.append(f"{time.strftime('%T')} {error!r} after {took_s:.2f} s")
                continue
            if status != 200:
                self.failed.append(str(status))
            self.answered += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)


@contextmanager
def hammered(
    deployed: Deployed, paths: Sequence[str] = ("/health",), token: str = ""
) -> Iterator[Hammer]:
    hammer = Hammer(deployed, paths, token)
    threads = [threading.Thread(target=hammer.ask) for _ in range(CLIENTS)]
    for each in threads:
        each.start()
    try:
        yield hammer
    finally:
        hammer.over.set()
        for each in threads:
            each.join()
        print(f"{hammer.answered} answered, longest {hammer.longest_s:.2f} s")


class Traffic:
    """Trips under way, and how many updates of them were acknowledged. One thread produces."""

    def __init__(self, deployed: Deployed, trips: int, rate: float) -> None:
        self._environ, self._rate = deployed.environ, rate
        self._platform = Platform(
            self._environ["KAFKA_BROKERS"], self._environ["KAFKA_TOPIC_PREFIX"]
        )
        self.trips = [Trip(datetime.now(UTC)) for _ in range(trips)]
        self.sent = dict.fromkeys((trip.booking_id for trip in self.trips), 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="traffic")

    def __enter__(self) -> Self:
        for trip in self.trips:
            self._platform.accept(trip)
        self._thread.start()
        wait_until(lambda: all(self.heads().get(trip, 0) for trip in self.sent), "all began")
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._platform.close()

    def end(self) -> None:
        """No more updates."""
        self._over.set()
        self._thread.join()

    def _produce(self) -> None:
        due = time.monotonic()
        for trip in itertools.cycle(self.trips):
            due += 1 / self._rate
            if self._over.wait(max(due - time.monotonic(), 0)):
                return
            self._platform.update(trip, (datetime.now(UTC) - trip.start).total_seconds())
            self.sent[trip.booking_id] += 1

    def heads(self) -> dict[UUID, int]:
        """What is stored of each trip."""
        return stored_heads(self._environ)

    def viewers(self, port: int, count: int) -> list[Viewer]:
        """The trips in turn."""
        made = []
        for number in range(count):
            trip = self.trips[number % len(self.trips)]
            token = access_token(self._environ["JWT_SECRET"], trip.owner_id, "owner")
            made.append(Viewer(("127.0.0.1", port), trip.booking_id, token))
        return made


def next_release(folder: Path, version: str, **changes: str) -> Path:
    """A checkout like this one with another version, and other lines in some files."""
    listing = f'. "{DEPLOY}/lib.sh"; release_tar "{CHECKOUT}" | tar -C "{folder}" -xf -'
    folder.mkdir()
    subprocess.run(["bash", "-c", listing], check=True)
    init = folder / "tracking" / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    (folder / "web" / "dist").mkdir(parents=True, exist_ok=True)
    for name, text in changes.items():
        file = folder / name.replace("__", "/")
        file = file.with_name(f"{file.name}.py")
        file.write_text(text + file.read_text())
    return folder


def packed(checkout: Path, machine: Machine) -> str:
    """A checkout's tarball as deploy/pack.sh makes it, on the machine."""
    target = checkout.parent / "packed"
    target.mkdir()
    said = subprocess.run(
        [checkout / "deploy" / "pack.sh", target], capture_output=True, text=True, check=True
    ).stdout.strip()
    machine.run("mkdir", "-p", "/tmp/new", status=0)
    shutil.copy(said, machine.path("/tmp/new"))
    return f"/tmp/new/{Path(said).name}"


EXPAND = '''"""Something new, which the release before does not know."""

from alembic import op

revision: str = "{revision}"
down_revision: str | None = "{before}"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE tracks ADD COLUMN remark text;"
        "CREATE TABLE remarks (track_id uuid PRIMARY KEY);"
        "INSERT INTO code_revisions VALUES ('{revision}')"
    )


def downgrade() -> None:
    op.execute(
        "DELETE FROM code_revisions WHERE revision = '{revision}';"
        "DROP TABLE remarks; ALTER TABLE tracks DROP COLUMN remark"
    )
'''


def expanded(checkout: Path) -> str:
    """One more migration, which only adds; its revision."""
    before = expected_revision()
    revision = f"{int(before) + 1:04d}"
    text = EXPAND.format(revision=revision, before=before)
    (checkout / "alembic" / "versions" / f"{revision}_remarks.py").write_text(text)
    return revision
