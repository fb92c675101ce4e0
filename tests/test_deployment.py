"""deploy/*.sh and the units, on a machine with a systemd of its own (tests/machine.py)."""

import hashlib
import importlib.metadata
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from uuid import uuid4

import pytest

from dev.private_server import free_port
from dev.tokens import access_token
from tests.machine import Machine, tree
from tests.running import CHECKOUT, Platform, Trip, administer, connect, wait_until
from tracking import __version__

DEPLOY = CHECKOUT / "deploy"
# What is installed: a copy, since somebody may be writing in the checkout.
SOURCE = "/srv/checkout"
OPT, ETC = "/opt/service-tracking", "/etc/service-tracking"
BLUE, GREEN = "service-tracking-live@blue.service", "service-tracking-live@green.service"
INTAKES = ("service-tracking-ingest@1.service", "service-tracking-ingest@2.service")
PYTHON = "/usr/bin/python3"
CLIENTS = 4


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


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    if reason := machine.why_not():
        pytest.skip(reason)
    yield machine.start()
    machine.stop()


@pytest.fixture(scope="module")
def roles(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database whose tables belong to nobody who logs in, as docs/deployment.md sets it up."""
    name = f"deployed_{uuid4().hex[:8]}"
    statements = [
        f"CREATE ROLE {name}_owner NOLOGIN",
        f"CREATE ROLE {name}_service LOGIN PASSWORD 'for-service' IN ROLE {name}_owner",
        f"CREATE ROLE {name}_migrations LOGIN PASSWORD 'for-migrations' IN ROLE {name}_owner",
        f"CREATE DATABASE {name} OWNER {name}_owner",
        f"ALTER ROLE {name}_service IN DATABASE {name} SET role TO {name}_owner",
        f"ALTER ROLE {name}_migrations IN DATABASE {name} SET role TO {name}_owner",
    ]
    for each in statements:
        administer(environ, each)
    with connect(environ, name) as connection:
        connection.cursor().execute("CREATE EXTENSION postgis")
    connection.close()
    yield {**environ, "DB_NAME": name, "KAFKA_TOPIC_PREFIX": name, "KAFKA_GROUP_ID": name}
    administer(environ, f"DROP DATABASE {name} WITH (FORCE)")
    for role in ("service", "migrations", "owner"):
        administer(environ, f"DROP ROLE {name}_{role}")


@pytest.fixture(scope="module")
def deployed(
    machine: Machine, roles: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Not installed yet, but everything that an operator fills in."""
    checkout = next_release(tmp_path_factory.mktemp("source") / "checkout", __version__)
    shutil.copytree(checkout, machine.path(SOURCE))
    said = machine.run(f"{SOURCE}/deploy/install.sh", status=3).stdout
    assert "Fill in /etc/service-tracking/env" in said
    deployed = Deployed(machine, roles, "")
    fill_in(deployed)
    lend_packages(machine)
    yield deployed
    deployed.platform.close()


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
    own = {"DB_USER": f"{environ['DB_NAME']}_service", "RELAY_PARTITIONS": "4"}
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


@pytest.fixture(scope="module")
def installed(deployed: Deployed) -> Deployed:
    said = deployed.machine.run(f"{SOURCE}/deploy/install.sh", status=0).stdout
    print(said)
    deployed.release = said.split(f" is in {OPT}")[0].rsplit(" ", 1)[1]
    return deployed


class Hammer:
    """Clients that ask for /health as fast as they are answered, each time on a new connection."""

    def __init__(self, deployed: Deployed) -> None:
        self._deployed = deployed
        self._over = threading.Event()
        self.answered = 0
        self.failed: list[str] = []
        self.longest_s = 0.0

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                status = self._deployed.get("/health")[0]
            except (OSError, HTTPException) as error:
                took_s = time.monotonic() - began
                self.failed.append(f"{time.strftime('%T')} {error!r} after {took_s:.2f} s")
                continue
            if status != 200:
                self.failed.append(str(status))
            self.answered += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self._over.wait(0.01)


@contextmanager
def hammered(deployed: Deployed) -> Iterator[Hammer]:
    hammer = Hammer(deployed)
    threads = [threading.Thread(target=hammer._ask) for _ in range(CLIENTS)]
    for each in threads:
        each.start()
    try:
        yield hammer
    finally:
        hammer._over.set()
        for each in threads:
            each.join()
        print(f"{hammer.answered} answered, longest {hammer.longest_s:.2f} s")


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


def test_installed_it_stores_and_serves_under_systemd(installed: Deployed) -> None:
    assert installed.is_active(BLUE, GREEN, *INTAKES) == [True, False, True, True]
    assert installed.machine.shows(BLUE, "StatusText") == ["ready"]
    assert {installed.runs(unit) for unit in (BLUE, *INTAKES)} == {installed.release}
    installed.stores_and_shows()
    assert b"tracking_build_info" in installed.get("/metrics", port=installed.management_port)[1]
    assert installed.get("/metrics")[0] == 404
    name = installed.environ["DB_NAME"]
    with connect(installed.environ) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename ~ '^(track|wayp)'"
        )
        assert cursor.fetchall() == [(f"{name}_owner",)]
        cursor.execute("SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = %s", (name,))
        assert (f"{name}_service",) in cursor.fetchall()
    connection.close()


def test_the_processes_have_no_user_no_rights_and_no_secrets_in_their_environment(
    installed: Deployed,
) -> None:
    machine = installed.machine
    pid = machine.main_pid(BLUE)
    status = machine.run("cat", f"/proc/{pid}/status", status=0).stdout
    assert int(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)[0]) >= 61184  # DynamicUser's
    assert re.findall(r"^CapBnd:\s+(\w+)", status, re.MULTILINE) == ["0" * 16]
    assert "Seccomp:\t2" in status
    environ = machine.path(f"/proc/{pid}/environ").read_text()
    assert "for-service" not in environ
    assert installed.environ["JWT_SECRET"] not in environ


def test_the_journal_knows_how_severe_a_line_is(installed: Deployed) -> None:
    machine, unit = installed.machine, "without-settings.service"
    program = f"WorkingDirectory={OPT}/current\nExecStart={OPT}/current/.venv/bin/python server.py"
    machine.write(f"/etc/systemd/system/{unit}", f"[Service]\nType=oneshot\n{program}\n")
    machine.run("systemctl", "daemon-reload", status=0)
    machine.run("systemctl", "start", unit, status=1)
    log = ["journalctl", "-o", "cat", "-t", "python", "-u"]
    assert "JWT_SECRET: none is set" not in machine.run(*log, unit, "-p", "crit").stdout
    grave = machine.run(*log, unit, "-p", "err").stdout
    assert grave.startswith("JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_URL: none is set")
    assert " INFO " in machine.run(*log, BLUE).stdout
    assert " INFO " not in machine.run(*log, BLUE, "-p", "warning").stdout
    machine.path(f"/etc/systemd/system/{unit}").unlink()


def test_a_second_run_changes_nothing(installed: Deployed) -> None:
    machine = installed.machine
    before = [machine.main_pid(unit) for unit in (BLUE, *INTAKES)]
    env = machine.path(f"{ETC}/env").read_text()
    machine.run(f"{SOURCE}/deploy/install.sh", status=0)
    assert [machine.main_pid(unit) for unit in (BLUE, *INTAKES)] == before
    assert machine.path(f"{ETC}/env").read_text() == env


def test_upgrade_and_rollback_refuse_no_request(installed: Deployed, tmp_path: Path) -> None:
    machine = installed.machine
    checkout = next_release(tmp_path / "next", "9.9.9")
    packed = subprocess.run(
        [checkout / "deploy" / "pack.sh", tmp_path], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert packed == str(tmp_path / "service-tracking-9.9.9.tar.gz")
    machine.run("mkdir", "-p", "/tmp/new", status=0)
    shutil.copy(packed, machine.path("/tmp/new"))
    new = f"/tmp/new/{Path(packed).name}"
    with hammered(installed) as hammer:
        print(machine.run(f"{SOURCE}/deploy/upgrade.sh", new, status=0).stdout)
        assert [installed.runs(unit) for unit in (GREEN, *INTAKES)] == ["9.9.9"] * 3
        assert installed.is_active(BLUE, GREEN) == [False, True]
        installed.stores_and_shows()
        said = machine.run(f"{OPT}/current/deploy/rollback.sh", status=0).stdout
        assert f"service-tracking {installed.release} runs." in said
    assert [installed.runs(unit) for unit in (BLUE, *INTAKES)] == [installed.release] * 3
    assert installed.is_active(BLUE, GREEN) == [True, False]
    installed.stores_and_shows()
    assert hammer.failed == []
    assert hammer.answered > 100


def test_a_release_that_does_not_become_ready_leaves_the_old_one_serving(
    installed: Deployed, tmp_path: Path
) -> None:
    machine = installed.machine
    broken = 'import sys\nif "--check" not in sys.argv: sys.exit("broken on purpose")\n'
    checkout = next_release(tmp_path / "broken", "9.9.10", roles__starting=broken)
    machine.path("/tmp/broken").mkdir()
    shutil.copytree(checkout, machine.path("/tmp/broken"), dirs_exist_ok=True)
    pid = machine.main_pid(BLUE)
    with hammered(installed) as hammer:
        said = machine.run("/tmp/broken/deploy/upgrade.sh", status=1).stdout
        assert "broken on purpose" in said
    assert hammer.failed == []
    assert machine.main_pid(BLUE) == pid
    assert installed.is_active(BLUE, GREEN) == [True, False]
    said = machine.run(f"{OPT}/current/deploy/rollback.sh", "--list", status=0).stdout
    assert installed.release in said


def test_a_process_that_stands_still_is_killed_and_nobody_is_refused(installed: Deployed) -> None:
    machine = installed.machine
    impatient = "[Service]\nWatchdogSec=4\n"
    machine.write(f"/etc/systemd/system/{BLUE}.d/watchdog.conf", impatient)
    machine.run("systemctl", "daemon-reload", status=0)
    machine.run("systemctl", "restart", BLUE, status=0)
    pid = machine.main_pid(BLUE)
    with hammered(installed) as hammer:
        machine.run("kill", f"-{signal.SIGSTOP.value}", str(pid), status=0)
        wait_until(lambda: machine.main_pid(BLUE) not in (0, pid), "another process")
        wait_until(lambda: installed.is_active(BLUE) == [True], "ready again")
        seen = hammer.answered
        wait_until(lambda: hammer.answered > seen + CLIENTS, "answered again")
    # Four hung in the accepted connections of the process that was killed, at the most.
    assert len(hammer.failed) <= CLIENTS, hammer.failed
    assert f"{BLUE}: Watchdog timeout" in machine.run("journalctl", "-u", BLUE).stdout


def test_removed_it_leaves_only_settings_and_with_purge_nothing(installed: Deployed) -> None:
    machine = installed.machine
    machine.run(f"{SOURCE}/deploy/uninstall.sh", status=0)
    assert installed.traces() == installed.before
    assert machine.path(f"{ETC}/env").exists()
    assert (
        machine.run("systemctl", "list-units", "--all", "--no-legend", "service-tr*").stdout == ""
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", installed.port)).close()
    machine.run(f"{SOURCE}/deploy/uninstall.sh", "--purge", status=0)
    assert not machine.path(ETC).exists()


def test_everything_in_one_process_restarts_without_refusing_anybody(deployed: Deployed) -> None:
    """The machine is as it was before the first installation, but for the packages."""
    machine, everything = deployed.machine, "service-tracking-all.service"
    machine.run(f"{SOURCE}/deploy/uninstall.sh", "--purge", status=0)
    machine.run(f"{SOURCE}/deploy/install.sh", status=3)
    fill_in(deployed)
    lend_packages(machine)
    machine.run(f"{SOURCE}/deploy/install.sh", "--all", status=0)
    assert deployed.is_active(everything, BLUE, *INTAKES) == [True, False, False, False]
    with hammered(deployed) as hammer:
        wait_until(lambda: hammer.answered > CLIENTS, "answered")
        machine.run("systemctl", "restart", everything, status=0)
        seen = hammer.answered
        wait_until(lambda: hammer.answered > seen + CLIENTS, "answered again")
    assert hammer.failed == []
    deployed.stores_and_shows()
