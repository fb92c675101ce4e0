"""Processes of this project's programs that start at once.

Importing SQLAlchemy, Alembic and kafka-python takes a core two seconds, and the tests start such
a process a hundred times. So they are forked from one that has imported everything
(tests/starter.py). All else is as after an exec: environment, arguments, standard streams,
limit of descriptors, signals and exit status.
"""

import atexit
import functools
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
RUN_S = 60.0
ANSWER_BYTES = 1 << 10


class Starter:
    """The process that forks the others, for as long as the tests run. Any thread."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.starter", str(theirs.fileno())],
            cwd=CHECKOUT,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        atexit.register(self._stop)

    def _stop(self) -> None:
        self._control.close()
        self._process.wait()

    def ask(self, descriptors: Sequence[int] = (), **request: Any) -> Any:
        with self._lock:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            answer = self._control.recv(ANSWER_BYTES)
        assert answer, "the process that starts the others has died"
        return json.loads(answer)


@functools.cache
def starter() -> Starter:
    return Starter()


class Program:
    """Like subprocess.Popen of `python ARGUMENTS` in the checkout."""

    def __init__(
        self, arguments: Sequence[str], environ: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        self.arguments = list(arguments)
        self.returncode: int | None = None
        with Path(os.devnull).open() as stdin:
            self.pid: int = starter().ask(
                [stdin.fileno(), stdout, stderr],
                arguments=self.arguments,
                environ=dict(environ),
                limit=resource.getrlimit(resource.RLIMIT_NOFILE),
            )
        self._pidfd = os.pidfd_open(self.pid)  # it stays a zombie until it is asked for

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = starter().ask(reap=self.pid)
            if self.returncode is not None:
                os.close(self._pidfd)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(self.arguments, timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_program(
    *arguments: str, environ: Mapping[str, str], timeout: float = RUN_S
) -> subprocess.CompletedProcess[str]:
    """Like subprocess.run of `python ARGUMENTS` in the checkout, with what it printed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        program = Program(arguments, environ, out.fileno(), err.fileno())
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*arguments], status, out.read(), err.read())
