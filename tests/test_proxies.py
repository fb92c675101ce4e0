"""deploy/nginx and deploy/haproxy: the shipped files in front of two nodes, one of which goes."""

import asyncio
import itertools
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from uuid import uuid4

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dev.nginx import changed, command, program
from dev.private_server import free_port
from tests.issuer import write_certificates
from tests.running import CHECKOUT, Server, Trip, wait_until
from tests.test_roles import Company

HAPROXY = CHECKOUT / "deploy" / "haproxy" / "haproxy.cfg"
BOOKINGS = 12


class Proxy:
    """A running proxy in front of both nodes, spoken to through TLS."""

    def __init__(self, name: str, folder: Path, company: Company, nodes: list[Server]) -> None:
        self.name, self.folder, self.company, self.nodes = name, folder, company, nodes
        self.port = free_port()
        self.context = ssl.create_default_context(cafile=folder / "ca.pem")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        run, check = getattr(self, f"_{self.name}")()
        checked = subprocess.run(check, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        with (self.folder / "said.log").open("wb") as said:
            self._process = subprocess.Popen(run, stdout=said, stderr=said)
        wait_until(self._answers, f"{self.name} answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def _answers(self) -> bool:
        try:
            return self.get("/health") == 200
        except OSError:
            return False

    def _nginx(self) -> tuple[list[str], list[str]]:
        ports = [node.port for node in self.nodes]
        made = command(self.folder, self.port, ports, self.folder / "issuer.pem")
        return made, [*made, "-t"]

    def _haproxy(self) -> tuple[list[str], list[str]]:
        pair = self.folder / "issuer.pem"
        one, other = self.nodes
        changes = [
            (r"bind :443 ssl crt \S+", f"bind 127.0.0.1:{self.port} ssl crt {pair}"),
            (r"log /dev/log local0", "log stdout format raw local0"),
            (r"/run/haproxy/admin.sock", f"{self.folder}/admin.sock"),
            (r"check port 8006", "check"),
            (r"10.0.0.11:8005", f"127.0.0.1:{one.port}"),
            (r"10.0.0.12:8005", f"127.0.0.1:{other.port}"),
            (r"maxconn 100000", "maxconn 500"),
        ]
        config = changed(HAPROXY.read_text(), changes, self.folder / "haproxy.cfg")
        made = [program("haproxy") or "", "-f", str(config)]
        return [*made, "-db"], [*made, "-c"]

    def get(self, path: str, token: str = "") -> int:
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.context)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def show(self, trip: Trip) -> int:
        token = self.nodes[0].token(trip.owner_id, "owner")
        return self.get(f"/api/v1/tracking/{trip.booking_id}", token)

    def knows(self, trip: Trip) -> bool:
        return self.show(trip) == 200

    async def watch(self, trip: Trip) -> WebSocketClientConnection:
        """Raises when refused."""
        token = self.nodes[0].token(trip.owner_id, "owner")
        url = f"wss://127.0.0.1:{self.port}/ws/tracking/{trip.booking_id}"
        headers = {"Authorization": f"Bearer {token}"}
        return await websocket_connect(HTTPRequest(url, headers=headers, ssl_options=self.context))

    def tell(self, command: str) -> str:
        """HAProxy's runtime interface."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder / "admin.sock"))
            link.sendall(command.encode() + b"\n")
            return link.recv(65536).decode()

    def logged(self) -> str:
        names = ("said", "main", "service-tracking", "service-tracking-error")
        paths = [self.folder / f"{name}.log" for name in names]
        return "".join(path.read_text() for path in paths if path.exists())


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(
    request: pytest.FixtureRequest, database: dict[str, str], tmp_path: Path
) -> Iterator[Proxy]:
    name = request.param
    if program(name) is None:
        pytest.skip(f"{name} is not installed")
    write_certificates(tmp_path)
    with ExitStack() as stack:
        company = Company(stack, database, tmp_path)
        company.start("ingest")
        nodes = [company.start("live") for _ in range(2)]
        proxy = Proxy(name, tmp_path, company, nodes)
        stack.callback(proxy.stop)
        proxy.start()
        yield proxy


class Asking:
    """Threads that ask for bookings through the proxy until the block ends."""

    def __init__(self, proxy: Proxy, trips: list[Trip]) -> None:
        self._proxy, self._trips = proxy, trips
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        self.answers: list[int | str] = []

    def _ask(self) -> None:
        for trip in itertools.cycle(self._trips):
            if self._over.is_set():
                return
            try:
                self.answers.append(self._proxy.show(trip))
            except (OSError, HTTPException) as error:
                self.answers.append(repr(error))

    def __enter__(self) -> "Asking":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()


def trips_of(proxy: Proxy) -> list[Trip]:
    """Bookings that both nodes know."""
    trips = [Trip() for _ in range(BOOKINGS)]
    for trip in trips:
        proxy.company.platform.accept(trip)
    for trip in trips:
        wait_until(partial(proxy.knows, trip), "known")
    return trips


@pytest.mark.gen_test
async def test_a_booking_has_one_node_and_nobody_is_refused_when_a_node_goes(proxy: Proxy) -> None:
    trips = await asyncio.to_thread(trips_of, proxy)
    viewers = [await proxy.watch(trip) for trip in trips * 2]
    rooms = [int(node.metric("tracking_rooms")) for node in proxy.nodes]
    assert min(rooms) > 0
    assert sum(rooms) == BOOKINGS
    assert sum(node.metric("tracking_subscribers") for node in proxy.nodes) == len(viewers)
    with Asking(proxy, trips) as asking:
        if proxy.name == "haproxy":
            proxy.tell("set server live/a state drain")
        assert await asyncio.to_thread(proxy.nodes[0].stop) == 0
        again = [await proxy.watch(trip) for trip in trips]
        seen = len(asking.answers)
        await asyncio.to_thread(wait_until, lambda: len(asking.answers) > seen + 30, "asked on")
    assert set(asking.answers) == {200}
    left = proxy.nodes[1].metric("tracking_rooms")
    assert left == BOOKINGS
    for viewer in viewers + again:
        viewer.close()


def test_no_token_is_logged_and_what_is_for_machines_is_not_there(proxy: Proxy) -> None:
    secrets = [f"secret{uuid4().hex}" for _ in range(4)]
    paths = ("/s/{}", "/ws/shared/{}", "/api/v1/tracking/shared/{}",
             f"/ws/tracking/{uuid4()}?token={{}}")  # fmt: skip
    for path, secret in zip(paths, secrets, strict=True):
        # The page is the same for every token; it is there if the pages are built.
        assert proxy.get(path.format(secret)) >= (200 if path == "/s/{}" else 400)
    assert [proxy.get("/metrics"), proxy.get("/readiness")] == [404, 404]
    wait_until(lambda: "/readiness" in proxy.logged(), "logged")
    assert "/ws/tracking/" in proxy.logged()
    assert "/ws/shared/***" in proxy.logged()
    assert not [secret for secret in secrets if secret in proxy.logged()]
