"""workers.supervisor: what systemd is told and hands over, as sd_notify(3) says it."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from subprocess import Popen

import pytest

from tests.running import CHECKOUT, wait_until
from workers.supervisor import Supervisor, inherited_sockets, tell_supervisor

# Becomes the server, with a listening socket as descriptor 3, as a socket unit hands it over.
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "clients"}
os.execv(sys.executable, [sys.executable, "server.py"])
"""


class Systemd:
    """The socket that it listens on."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        self._socket.settimeout(30)

    def heard(self) -> list[str]:
        """The next datagram."""
        return self._socket.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def systemd(address: str) -> Iterator[Systemd]:
    made = Systemd(address)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_is_told_by_a_datagram(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@{tmp_path.name}-{os.getpid()}"
    with systemd(address) as there:
        supervisor = Supervisor({"NOTIFY_SOCKET": address})
        supervisor.say("ready", "READY=1")
        assert there.heard() == ["READY=1", "STATUS=ready"]
        supervisor.say("ready")
        supervisor.stopping()
        assert there.heard() == ["STOPPING=1", "STATUS=stopping"]
    supervisor.say("to nobody any more")


def test_without_a_supervisor_nothing_is_said() -> None:
    supervisor = Supervisor({})
    supervisor.say("ready", "READY=1")
    assert supervisor.sign_s is None


@pytest.mark.parametrize(
    ("pid", "every", "sign_s"),
    [("", "30000000", 10.0), ("own", "3000000", 1.0), ("1", "3000000", None),
     ("", "", None)],
)  # fmt: skip
def test_signs_of_life_are_given_where_they_are_wanted(
    pid: str, every: str, sign_s: float | None
) -> None:
    pid = str(os.getpid()) if pid == "own" else pid
    environ = {"WATCHDOG_PID": pid, "WATCHDOG_USEC": every}
    assert Supervisor(environ).sign_s == sign_s
    assert environ == {}


@pytest.mark.gen_test
async def test_it_hears_why_a_process_is_not_ready_and_when_it_is(tmp_path: Path) -> None:
    checks = {"database": "not reachable"}

    async def readiness() -> dict[str, str]:
        return checks

    address = str(tmp_path / "notify")
    with systemd(address) as there:
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
        alive = [True]
        job = asyncio.create_task(tell_supervisor(Supervisor(environ), readiness, lambda: alive[0]))
        said = await asyncio.to_thread(there.heard)
        assert said == ["STATUS=not ready: database not reachable"]
        assert await asyncio.to_thread(there.heard) == ["WATCHDOG=1"]
        checks["database"] = "ok, slow"
        while said != ["READY=1", "STATUS=ready"]:
            said = await asyncio.to_thread(there.heard)
        alive[0] = False  # a thread stands still: no more signs, but the word goes on
        checks["database"] = "does not answer"
        while said != ["STATUS=not ready: database does not answer"]:
            said = await asyncio.to_thread(there.heard)
        checks["database"] = "ok"
        assert await asyncio.to_thread(there.heard) == ["STATUS=ready"]
        job.cancel()


def test_what_another_process_was_given_is_not_taken() -> None:
    assert inherited_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}
    assert inherited_sockets({}) == {}


def start(environ: dict[str, str], listening: socket.socket, log: Path) -> "Popen[bytes]":
    with log.open("ab") as out:
        return Popen(
            [sys.executable, "-c", EXEC, str(listening.fileno())],
            env={**environ, "PATH": os.environ["PATH"], "KAFKA_TOPIC_PREFIX": log.parent.name},
            cwd=CHECKOUT, stderr=out, pass_fds=[listening.fileno()],
        )  # fmt: skip


def test_the_queue_of_a_socket_unit_is_kept_while_processes_change(
    database: dict[str, str], tmp_path: Path
) -> None:
    """Who connects while nobody runs is answered by the next one."""
    log = tmp_path / "server.log"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        first = start(database, listening, log)
        wait_until(lambda: b" listening on " in log.read_bytes(), "listening")
        first.terminate()
        assert first.wait(25) == 0
        client = HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)
        client.request("GET", "/health")
        second = start(database, listening, log)
        assert client.getresponse().status == 200
        client.close()
        second.terminate()
        assert second.wait(25) == 0
