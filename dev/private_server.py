"""A server of our own on a free loopback port: found again, stopped, killed, paused by its files.

Nothing is remembered in the process that started it: another command, after a kill -9 or a
reboot, finds the same server (or its remains) in the same directory.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.processes import arguments_of, children_of, first_number, send_signal

CHECKOUT = Path(__file__).resolve().parent.parent

# Outside the range the kernel gives to outgoing connections (32768 and up), or a client that
# knocks on a stopped server's port could take it, or even connect to itself.
PORTS = range(15000, 32000)

# A start may fail for a reason that passes: the port was taken between choosing and binding,
# or a killed server's last children have not let go of its files.
STARTS = 3

READY_SECONDS = 120
STOP_SECONDS = 15


class ServiceError(Exception):
    """A private service does not work; the message says why and what to do."""


class PrivateServer:
    """What the private servers have in common; used by one thread at a time.

    In a `with` block it runs for the length of the block, and its data is removed afterwards.
    """

    name: str
    stop_signal: signal.Signals

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.log = self.directory.with_name(self.directory.name + ".log")
        self._port_file = self.directory / "port"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1, or listened last. Kept across starts while free."""
        return int(self._port_file.read_text())

    @property
    def pid(self) -> int | None:
        """The running server's process id, checked to be this server and no other program."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
        pid = first_number(self._pid_file())
        return pid if pid is not None and self._mark() in arguments_of(pid) else None

    def start(self) -> None:
        """Returns when it answers. Does nothing to a server that runs already."""
        if self.pid is not None:
            self.resume()
            self._await_ready()
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self._prepare()
        for attempt in range(STARTS):
            self._choose_port()
            self._launch()
            if self._await_ready():
                return
            time.sleep(0.5 * (attempt + 1))
        raise self._failure("did not start")

    def stop(self) -> None:
        """An orderly end. Idempotent."""
        pid = self.pid
        if pid is None:
            return
        self.resume()
        os.kill(pid, self.stop_signal)
        if not self._await_gone(STOP_SECONDS):
            self.kill()

    def kill(self) -> None:
        """As if the power had gone: no process of the server runs another instruction."""
        for pid in self._processes():
            send_signal(pid, signal.SIGKILL)
        if not self._await_gone(STOP_SECONDS):
            raise self._failure("survived SIGKILL")

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """It keeps its connections and answers nobody, like a machine that hangs."""
        # The parent stops first and so makes no child that would be missed.
        if (pid := self.pid) is not None:
            send_signal(pid, signal.SIGSTOP)
        for child in self._processes():
            send_signal(child, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in reversed(self._processes()):
            send_signal(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stops it and deletes its data; the log stays."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _prepare(self) -> None:
        """Makes what a start needs: data, configuration. Called with the directory there."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _mark(self) -> str:
        """An argument that only this very server has on its command line."""
        raise NotImplementedError

    def _pid_file(self) -> Path:
        return self.directory / "pid"

    def _user(self) -> int | None:
        """The user to run as, where that is not ours."""
        return None

    def _answers(self) -> bool:
        raise NotImplementedError

    def _launch(self) -> None:
        user = self._user()
        with self.log.open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal is not for the server.
            self._child = subprocess.Popen(
                self._command(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user and group_of(user),
                extra_groups=None if user is None else [],
            )

    def _choose_port(self) -> None:
        recorded = first_number(self._port_file)
        port = recorded if recorded is not None and _is_free(recorded) else free_port()
        self._port_file.write_text(f"{port}\n")

    def _await_ready(self) -> bool:
        """False if the process ended instead."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._child is not None and self._child.poll() is not None:
                return False
            if self.pid is not None and self._answers():
                return True
            time.sleep(0.05)
        raise self._failure(f"did not answer within {READY_SECONDS} s")

    def _await_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        if self._child is not None:
            self._child.wait()
            self._child = None
        return True

    def _processes(self) -> list[int]:
        """The server and its children, the server first; empty when it does not run."""
        pid = self.pid
        return [] if pid is None else [pid, *children_of(pid)]

    def _failure(self, what: str) -> ServiceError:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return ServiceError(
            f"{self.name} {what}. The end of {self.log}:\n"
            + "".join(f"    {line}\n" for line in lines[-15:])
            + f"If its data is damaged, remove {self.directory} and start again."
        )


def say(line: str) -> None:
    """Tells what goes on. Not on standard output: that belongs to the command of a `run`."""
    print(f"services: {line}", file=sys.stderr, flush=True)


def free_port() -> int:
    """A loopback port on which nobody listens now."""
    candidates = (random.choice(PORTS) for _ in range(1000))
    return next(port for port in candidates if _is_free(port))


def group_of(user: int) -> int:
    """The user's primary group."""
    return pwd.getpwuid(user).pw_gid


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of an earlier run that are still fading do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
