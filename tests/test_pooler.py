"""tracking.store.pooler: what serves clients, through a real PgBouncer in transaction mode."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from tornado.websocket import WebSocketClientConnection

from dev.private_server import free_port
from tests.programs import run_program
from tests.running import CHECKOUT, Platform, Server, running_server, wait_until
from tests.served import API, owner, stored_trip, wait_seq
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine, is_transient
from tracking.store.statements import transaction

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
# Of PostgreSQL, for however many clients.
CONNECTIONS = 2
CONFIGURATION = CHECKOUT / "deploy" / "pgbouncer" / "pgbouncer.ini"


class PgBouncer:
    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.environ, self.port = environ, free_port()
        self._file = folder / "pgbouncer.ini"
        self._log = folder / "pgbouncer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._file.write_text(self._configuration(folder))
        users = folder / "users.txt"
        users.write_text(f'"{environ["DB_USER"]}" "{environ["DB_PASSWORD"]}"\n')
        self._nobody = None if os.geteuid() else pwd.getpwnam("nobody").pw_uid  # root it refuses
        if self._nobody is not None:
            os.chown(users, self._nobody, -1)
            folder.chmod(0o711)

    def _configuration(self, folder: Path) -> str:
        """The shipped one, with what is marked there and few connections."""
        environ = self.environ
        server = f"host={environ['DB_HOST']} port={environ['DB_PORT']}"
        text = CONFIGURATION.read_text()
        for there, here in (
            (r"tracking_db = .*", f"* = {server}\npostgres = {server} dbname={environ['DB_NAME']}"),
            (r"listen_addr = .*", "listen_addr = 127.0.0.1"),
            (r"listen_port = .*", f"listen_port = {self.port}"),
            (r"auth_file = .*", f"auth_file = {folder}/users.txt"),
            (r"default_pool_size = .*", f"default_pool_size = {CONNECTIONS}"),
            (r"(pool_mode = transaction)", rf"\1\nadmin_users = {environ['DB_USER']}"),
        ):
            text, changed = re.subn(there, here, text)
            assert changed == 1, there
        return text

    def start(self) -> "PgBouncer":
        assert PROGRAM is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, self._file], stdout=log, stderr=log, user=self._nobody
            )
        wait_until(self._answers, "PgBouncer answers", 20)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return bool(self.show("VERSION"))
        except psycopg2.OperationalError:
            return False

    def show(self, what: str) -> list[dict[str, Any]]:
        """Its own console."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname="pgbouncer",
            user=self.environ["DB_USER"], password=self.environ["DB_PASSWORD"],
        )  # fmt: skip
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SHOW {what}")
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor]
        finally:
            connection.close()

    def queries(self) -> int:
        """Of the tests' database, so far."""
        rows = self.show("STATS_TOTALS")
        return sum(row["query_count"] for row in rows if row["database"] == self.environ["DB_NAME"])


@pytest.fixture(scope="module")
def pooler(database: dict[str, str]) -> Iterator[PgBouncer]:
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed: `dev/setup.sh tests` does that")
    # Not pytest's folder, which other users cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="service-tracking-pooler-", dir="/var/tmp"))
    pooler = PgBouncer(folder, database)
    yield pooler.start()
    pooler.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def environ_with(pooler: PgBouncer) -> dict[str, str]:
    return {**pooler.environ, "DB_POOLER": f"127.0.0.1:{pooler.port}"}


@pytest.fixture(scope="module")
def served(
    environ_with: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("served") / "server.log"
    with running_server(
        environ_with, log, UNKNOWN_BOOKING_GRACE="0", REQUESTS_PER_SECOND="0"
    ) as it:
        yield it


@pytest.fixture(scope="module")
def senders(served: Server) -> Iterator[Platform]:
    platform = Platform(served.environ["KAFKA_BROKERS"], served.environ["KAFKA_TOPIC_PREFIX"])
    yield platform
    platform.close()


@pytest.fixture
def make(environ_with: dict[str, str]) -> Iterator[Callable[..., sa.Engine]]:
    made: list[sa.Engine] = []

    def engine(timeout_s: float = 30, size: int = 2) -> sa.Engine:
        settings = DatabaseSettings.from_environment(environ_with)
        made.append(create_engine(
            settings, name="tests", pool_size=size, statement_timeout_s=timeout_s, autocommit=True
        ))  # fmt: skip
        return made[-1]

    yield engine
    for each in made:
        each.dispose()


def ask(engine: sa.Engine, statement: str, *values: object) -> Any:
    with transaction(engine) as cursor:
        cursor.execute(statement, values or None)
        return (cursor.fetchone() or (None,))[0]


def test_clients_are_served_through_it_and_storing_goes_past_it(
    served: Server, senders: Platform, pooler: PgBouncer
) -> None:
    trip = stored_trip(served, senders, 3)
    before = pooler.queries()
    token = owner(served, trip)
    for path in (f"{API}/{trip.booking_id}", f"{API}/{trip.booking_id}/route",
                 f"{API}/{trip.booking_id}/export.gpx"):  # fmt: skip
        assert served.get(path, token)[0] == 200
    assert pooler.queries() > before
    share = served.get(f"{API}/{trip.booking_id}/share", token, "POST")[1]["data"]
    assert served.get(f"{API}/shared/{share['share_token']}")[0] == 200
    text = served.log.read_text()
    assert "not stored" not in text
    assert "maintenance fails" not in text
    clients = {row["application_name"] for row in pooler.show("CLIENTS")}
    assert "service-tracking requests" in clients
    assert "service-tracking ingest" not in clients


@pytest.mark.gen_test(timeout=60)
async def test_who_watches_joins_through_it(served: Server, senders: Platform) -> None:
    trip = stored_trip(served, senders, 1)
    socket: WebSocketClientConnection = await served.watch(trip.booking_id, owner(served, trip))
    assert b"106.8" in str(await socket.read_message()).encode()
    socket.close()


def test_a_limit_holds_for_each_statement_and_for_nobody_else(
    make: Callable[..., sa.Engine], pooler: PgBouncer
) -> None:
    hasty, patient = make(0.2), make(9)
    with pytest.raises(sa.exc.DBAPIError) as caught:
        ask(hasty, "SELECT pg_sleep(20)")
    assert caught.value.orig.pgcode == "57014"  # type: ignore[union-attr]
    names = ("statement_timeout", "lock_timeout", "timezone", "jit")
    shown = "SELECT concat_ws(' '" + "".join(f", current_setting('{n}')" for n in names) + ")"
    with transaction(hasty) as cursor:  # each of several
        for _ in range(2):
            cursor.execute(shown)
            assert cursor.fetchall() == [("200ms 2s UTC off",)]
    assert ask(patient, shown) == "9s 2s UTC off"
    with transaction(patient) as cursor:
        cursor.copy_expert(f"COPY ({shown}) TO STDOUT", copied := BytesIO())
    assert copied.getvalue() == b"9s 2s UTC off\n"
    with patient.connect() as connection:  # SQLAlchemy's own statements
        assert connection.scalar(sa.text(shown)) == "9s 2s UTC off"
    other = psycopg2.connect(
        host="127.0.0.1", port=pooler.port, dbname=pooler.environ["DB_NAME"],
        user=pooler.environ["DB_USER"], password=pooler.environ["DB_PASSWORD"],
    )  # fmt: skip
    with other, other.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)
    other.close()


def test_many_connections_share_a_few_of_postgresql(
    make: Callable[..., sa.Engine], pooler: PgBouncer
) -> None:
    engine, found = make(30, size=8), set()
    together = threading.Barrier(8)

    def work(number: int) -> None:
        with transaction(engine) as cursor:
            together.wait(20)
            for turn in range(25):
                cursor.execute("SELECT pg_backend_pid(), %s::int", (number * 100 + turn,))
                pid, answer = cursor.fetchone() or (0, 0)
                found.add(pid)
                assert answer == number * 100 + turn

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert 1 <= len(found) <= CONNECTIONS


def test_without_it_requests_get_503_and_storing_goes_on(
    served: Server, senders: Platform, pooler: PgBouncer, make: Callable[..., sa.Engine]
) -> None:
    trip = stored_trip(served, senders, 1)
    path, token = f"{API}/{trip.booking_id}", owner(served, trip)
    pooler.stop()
    try:
        wait_until(lambda: served.get(path, token)[0] == 503, "unavailable")
        applied = served.metric("tracking_events_total", outcome="applied")
        senders.update(trip, 2)
        wait_until(
            lambda: served.metric("tracking_events_total", outcome="applied") > applied, "stored"
        )
        with pytest.raises(sa.exc.DBAPIError) as caught:
            ask(make(), "SELECT 1")
        assert is_transient(caught.value)
    finally:
        pooler.start()
    wait_until(lambda: served.get(path, token)[0] == 200, "served again")
    wait_seq(served, trip, 2)


def test_check_tries_it(environ_with: dict[str, str]) -> None:
    good = run_program("server.py", "--check", environ=environ_with)
    assert "pooler: ok" in good.stdout, good.stderr
    stored = run_program("server.py", "--check", "--role", "ingest", environ=environ_with)
    assert "pooler" not in stored.stdout
    host, _, port = environ_with["DB_POOLER"].partition(":")
    wrong = {**environ_with, "DB_HOST": host, "DB_PORT": port}
    bad = run_program("server.py", "--check", environ=wrong)
    assert bad.returncode == 1
    assert "a PgBouncer belongs into DB_POOLER" in bad.stderr
    elsewhere = run_program("server.py", "--check", environ={**environ_with, "DB_NAME": "postgres"})
    assert "pooler: leads to another server or database" in elsewhere.stderr
