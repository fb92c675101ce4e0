"""Nodes whose listening socket stays while processes change: two serve, one stores."""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen
from uuid import UUID, uuid4

from bench.producing import make_topics
from dev.private_server import free_port
from dev.tokens import access_token
from tests.resuming import Viewer
from tests.running import CHECKOUT, Platform, Trip, fresh_database, stored_heads, wait_until

# As systemd starts a process with a socket; its id is known only there.
START: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "clients"}
os.execv(sys.executable, [sys.executable, "server.py", "--role", sys.argv[2]])
"""
BACKLOG: Final = 4096
READY_S: Final = 90.0
STOP_S: Final = 80.0
LIMITS: Final = ("MAX_VIEWERS_PER_USER", "MAX_VIEWERS_PER_ADDRESS", "JOINS_PER_SECOND")


class Instance:
    """One process, on sockets that were opened for it, as systemd does it."""

    def __init__(
        self, environ: Mapping[str, str], role: str, log: Path, listening: socket.socket
    ) -> None:
        self.management = free_port()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, str(listening.fileno()), role],
                cwd=CHECKOUT,
                env={**environ, "MANAGEMENT_PORT": str(self.management)},
                stderr=out,
                pass_fds=[listening.fileno()],
            )
        self.pid = self.process.pid

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "a process ended"
        try:
            with urlopen(f"http://127.0.0.1:{self.management}/readiness", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def wait_ready(self) -> "Instance":
        wait_until(self.is_ready, "ready", READY_S)
        return self

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(STOP_S) == 0


class Node:
    """The socket, and the process that has it now."""

    def __init__(self, environ: Mapping[str, str], role: str, log: Path) -> None:
        self._environ, self._role, self._log = environ, role, log
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.listening.setblocking(False)
        self.port = int(self.listening.getsockname()[1])
        self.instance = self._begin()

    def _begin(self) -> Instance:
        return Instance(self._environ, self._role, self._log, self.listening)

    def restart(self) -> None:
        """One instance: new connections wait in the queue meanwhile."""
        self.instance.stop()
        self.instance = self._begin().wait_ready()

    def switch(self) -> None:
        """Blue and green: the other one is ready before this one goes."""
        other = self._begin().wait_ready()
        self.instance.stop()
        self.instance = other

    def close(self) -> None:
        self.instance.process.kill()
        self.instance.process.wait()
        self.listening.close()


class Cluster:
    """One that stores, some that serve, and trips under way: each has so many updates a second."""

    def __init__(self, stack: ExitStack, environ: dict[str, str], trips: int, rate: float) -> None:
        own = stack.enter_context(fresh_database(environ))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prefix = f"bench-{uuid4().hex[:12]}"
        make_topics(environ["KAFKA_BROKERS"], prefix)
        names = {"KAFKA_TOPIC_PREFIX": prefix, "KAFKA_GROUP_ID": prefix, "RELAY_PARTITIONS": "4"}
        self._environ = {**own, **names, **dict.fromkeys(LIMITS, "0"), "PATH": os.environ["PATH"]}
        self.log = folder / "log"
        self.ingest = self._node(stack, "ingest", KAFKA_INSTANCE_ID="ingest-1")
        self.lives = [self._node(stack, "live") for _ in range(2)]
        for node in (self.ingest, *self.lives):
            node.instance.wait_ready()
        self._platform = Platform(environ["KAFKA_BROKERS"], prefix)
        stack.callback(self._platform.close)
        self.trips = [Trip(datetime.now(UTC)) for _ in range(trips)]
        self.sent = dict.fromkeys((trip.booking_id for trip in self.trips), 0)
        for trip in self.trips:
            self._platform.accept(trip)
        self._rate, self._over = rate, threading.Event()
        self._thread = threading.Thread(target=self._produce, name="producing")
        self._thread.start()
        stack.callback(self.end)
        wait_until(lambda: all(self.heads().get(trip, 0) for trip in self.sent), "all began")

    def _node(self, stack: ExitStack, role: str, **more: str) -> Node:
        node = Node({**self._environ, **more}, role, self.log)
        stack.callback(node.close)
        return node

    def _produce(self) -> None:
        due = time.monotonic()
        for trip in cycle(self.trips):
            due += 1 / self._rate
            if self._over.wait(max(due - time.monotonic(), 0)):
                return
            self._platform.update(trip, (datetime.now(UTC) - trip.start).total_seconds())
            self.sent[trip.booking_id] += 1

    def end(self) -> None:
        """No more updates."""
        self._over.set()
        self._thread.join()

    def heads(self) -> dict[UUID, int]:
        """What is stored of each trip."""
        return stored_heads(self._environ)

    def viewers(self, count: int, patience_s: float) -> list[Viewer]:
        """The trips and the nodes in turn."""
        secret = self._environ["JWT_SECRET"]
        tokens = [access_token(secret, trip.owner_id, "owner") for trip in self.trips]
        made = []
        for number in range(count):
            which, node = number // 2 % len(self.trips), self.lives[number % 2]
            address = "127.0.0.1", node.port
            made.append(Viewer(address, self.trips[which].booking_id, tokens[which], patience_s))
        return made


@contextmanager
def cluster(environ: dict[str, str], trips: int, rate: float) -> Iterator[Cluster]:
    """With as many descriptors as this machine gives."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        yield Cluster(stack, environ, trips, rate)
