"""A real server on real services, and what talks to it: producer, REST and WebSocket clients."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

import psycopg2
from alembic import command
from alembic.config import Config
from kafka import KafkaConsumer, KafkaProducer
from psycopg2.extensions import connection as Connection
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dev.tokens import access_token
from tests.programs import Program
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parent.parent
DEADLINE_S = 60.0  # only a test that hangs meets it
# What the private services are reached with.
NEEDED = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "KAFKA_BROKERS", "JWT_SECRET")


def wait_until(true: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Poll a condition that nothing announces; fail with its name."""
    end = time.monotonic() + deadline_s
    while not (value := true()):
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.02)
    return value


class Server:
    """`server.py` as a supervisor runs it: a process with an environment and a log."""

    def __init__(
        self, environ: Mapping[str, str], log: Path, program: Sequence[str] = ("server.py",)
    ) -> None:
        self.program = program
        self.environ = dict(environ)
        self.log = log
        self.secret = environ["JWT_SECRET"]
        self.address = "127.0.0.1"
        self.port = 0
        self._management_port: int | None = None
        self._log_start = 0
        self.process: Program | subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            self.process = Program(self.program, self.environ, 1, out.fileno())
        self.port = int(wait_until(self._listening, "listening").rsplit(" ", 1)[1])
        return self

    def _listening(self) -> str:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        lines = self.log.read_bytes()[self._log_start :].decode().splitlines()
        management = [line for line in lines if "metrics and readiness on " in line]
        if management:
            self._management_port = int(management[0].rsplit(" ", 1)[1])
        elif self.environ.get("MANAGEMENT_PORT"):
            return ""
        return next((line for line in lines if " listening on " in line), "")

    @property
    def management_port(self) -> int:
        """Where /metrics and /readiness are."""
        return self._management_port or self.port

    def wait_ready(self) -> "Server":
        wait_until(lambda: self.get("/readiness")[0] == 200, "ready")
        return self

    def wait_measured(self) -> "Server":
        """Until it knows how far it is behind: before that, no booking is certainly unknown."""
        token = self.token(uuid4(), "owner")
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                   "Authorization": f"Bearer {token}"}  # fmt: skip

        def is_certain() -> bool:
            connection = HTTPConnection(self.address, self.port, timeout=10)
            connection.request("GET", f"/ws/tracking/{uuid4()}", headers=headers)
            status = connection.getresponse().status
            connection.close()
            return status == 404

        wait_until(is_certain, "lag measured")
        return self

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(25)

    def token(self, user_id: UUID, role: str, /, **overrides: Any) -> str:
        return access_token(self.secret, user_id, role, **overrides)

    def get(
        self, path: str, token: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (JSON where it is JSON), headers."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        port = self.management_port if path in ("/metrics", "/readiness") else self.port
        request = Request(f"http://{self.address}:{port}{path}", headers=headers, method=method)
        try:
            with urlopen(request, timeout=30) as response:
                status, body, got = response.status, response.read(), response.headers
        except HTTPError as error:
            status, body, got = error.code, error.read(), error.headers
        is_json = "json" in got.get("Content-Type", "")
        return status, json.loads(body) if is_json and body else body, got

    async def watch(
        self, booking_id: UUID, token: str | None, **headers: str
    ) -> WebSocketClientConnection:
        """Raises tornado's HTTPClientError when refused."""
        query = "" if token is None else f"?token={token}"
        url = f"ws://{self.address}:{self.port}/ws/tracking/{booking_id}{query}"
        return await websocket_connect(HTTPRequest(url, headers=headers))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = self.get("/metrics")[1].decode()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(x.rsplit(" ", 1)[1]) for x in lines if all(w in x for w in wanted))


class Platform:
    """What the booking and runner services do, on topics of one prefix."""

    def __init__(self, brokers: str, prefix: str) -> None:
        self.brokers = brokers
        self.prefix = prefix
        self._producer = KafkaProducer(bootstrap_servers=brokers)

    def close(self) -> None:
        self._producer.close(timeout=5)

    def send_raw(
        self,
        topic: str,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Acknowledged when it returns; `at`: the record's own time, now if None."""
        name = f"{self.prefix}.{topic}" if self.prefix else topic
        key = str(uuid4()).encode()
        ms = None if at is None else round(at.timestamp() * 1000)
        sent = self._producer.send(
            name, value=value, key=key, headers=headers or [], timestamp_ms=ms
        )
        sent.get(timeout=60)

    def send(self, type_: str, **data: Any) -> None:
        """One event in the structured envelope on its service's topic."""
        service = type_.partition(".")[0]
        self.send_raw(f"{service}.events", json.dumps(envelope(type_, data)).encode())

    def accept(self, trip: "Trip", at: datetime | None = None, **overrides: Any) -> None:
        fields = {**trip.identity(), "occurred_at": stamp(at or trip.start), **overrides}
        self.send("booking.accepted", **fields)

    def update(self, trip: "Trip", second: float, **overrides: Any) -> None:
        self.send("runner.location_update", **trip.update(second, **overrides))

    def deliver(self, trip: "Trip", at: datetime) -> None:
        times = {"delivered_at": stamp(at), "occurred_at": stamp(at)}
        self.send("booking.delivery_confirmed", **trip.identity(), **times)

    def outgoing(self) -> KafkaConsumer:
        """Reads `tracking.events` from its beginning."""
        return KafkaConsumer(
            f"{self.prefix}.tracking.events",
            bootstrap_servers=self.brokers,
            auto_offset_reset="earliest",
            group_id=None,
            metadata_max_age_ms=500,
        )


class Trip:
    """One booking with its people, one waypoint a second eastwards along a parallel."""

    def __init__(self, start: datetime | None = None) -> None:
        self.booking_id = uuid4()
        self.runner_id = uuid4()
        self.owner_id = uuid4()
        self.start = start or datetime.now(UTC) - timedelta(hours=1)

    def identity(self) -> dict[str, str]:
        return {
            "booking_id": str(self.booking_id),
            "booking_number": "BK-1",
            "runner_id": str(self.runner_id),
            "owner_id": str(self.owner_id),
        }

    def at(self, second: float) -> datetime:
        return self.start + timedelta(seconds=second)

    def update(self, second: float, **overrides: Any) -> dict[str, Any]:
        return {
            "runner_id": str(self.runner_id),
            "booking_id": str(self.booking_id),
            "latitude": -6.2,
            "longitude": round(106.8 + second * 1e-4, 6),
            "speed_kmh": 36.5,
            "heading_degrees": 90.0,
            "timestamp": stamp(self.at(second)),
            "occurred_at": stamp(self.at(second)),
            **overrides,
        }


def stamp(time_: datetime) -> str:
    """Nine fractional digits, as the Go services write them."""
    return time_.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def envelope(type_: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "source": f"service-{type_.partition('.')[0]}",
        "type": type_,
        "time": stamp(datetime.now(UTC)),
        "datacontenttype": "application/json",
        "data": dict(data),
    }


@contextmanager
def running_server(
    environ: Mapping[str, str],
    log: Path,
    program: Sequence[str] = ("server.py",),
    **settings: str,
) -> Iterator[Server]:
    """A server with its own topics and group; stopped at the end, whatever happens."""
    with started_server(environ, log, program, **settings) as server:
        yield server.wait_ready()


@contextmanager
def started_server(
    environ: Mapping[str, str],
    log: Path,
    program: Sequence[str] = ("server.py",),
    **settings: str,
) -> Iterator[Server]:
    """As `running_server`, as soon as it listens: perhaps not ready yet."""
    own = {
        "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
        "KAFKA_GROUP_ID": f"test-{uuid4().hex[:12]}",
        "SERVICE_PORT": "0",
        "SERVICE_ADDRESS": "127.0.0.1",
        "PATH": os.environ["PATH"],
        **settings,
    }
    server = Server({**environ, **own}, log, program)
    try:
        yield server.start()
    finally:
        if server.process is not None:
            server.stop()


@contextmanager
def fresh_database(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a new, migrated database; dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    administer(environ, f"CREATE DATABASE {name} TEMPLATE {migrated_template(environ)}")
    yield {**environ, "DB_NAME": name}
    administer(environ, f"DROP DATABASE {name} WITH (FORCE)")


def migrated_template(environ: dict[str, str]) -> str:
    """The database that the others are copied from, made by whoever needs it first.

    Named after the migrations that made it, so it may stay for the next run.
    """
    migrations = sorted((CHECKOUT / "alembic").rglob("*.py"))
    content = b"".join(path.read_bytes() for path in migrations)
    name = f"template_{hashlib.sha256(content).hexdigest()[:12]}"
    connection = connect(environ, "postgres")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtext('migrated template'))")
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (name,))
            if cursor.rowcount == 0:
                cursor.execute(f"DROP DATABASE IF EXISTS {name}_half WITH (FORCE)")
                cursor.execute(f"CREATE DATABASE {name}_half")
                migrate({**environ, "DB_NAME": f"{name}_half"})
                cursor.execute(f"ALTER DATABASE {name}_half RENAME TO {name}")
    finally:
        connection.close()
    return name


def migrate(environ: dict[str, str]) -> None:
    engine = create_engine(DatabaseSettings.from_environment(environ), name="migrations")
    with engine.begin() as connection:
        config = Config(CHECKOUT / "alembic.ini")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def connect(environ: Mapping[str, str], database: str | None = None) -> Connection:
    """A plain connection to a database of the environment's server."""
    return psycopg2.connect(
        host=environ["DB_HOST"],
        port=environ["DB_PORT"],
        user=environ["DB_USER"],
        password=environ["DB_PASSWORD"],
        dbname=database or environ["DB_NAME"],
    )


def administer(environ: Mapping[str, str], statement: str) -> None:
    connection = connect(environ, "postgres")
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def stored_heads(environ: Mapping[str, str]) -> dict[UUID, int]:
    """The seq of the newest waypoint of each booking's track, as the table has it."""
    connection = connect(environ)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT booking_id::text, head_seq FROM tracks")
        found = {UUID(booking_id): seq for booking_id, seq in cursor.fetchall()}
    connection.close()
    return found
