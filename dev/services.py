"""The private PostgreSQL and Kafka of this checkout: up, down, status, run.

    python -m dev.services up              both on, until `down`
    python -m dev.services run -- CMD ...  on for as long as a command needs them
    python -m dev.services down|remove|status|env

`.dev/env` tells everybody where they are. Whoever uses them holds a lease, and the last to leave
stops them, unless somebody asked for them with `up`. PostgreSQL is left out of a `run` with
DB_HOST in the environment, Kafka with KAFKA_BROKERS: then those are used.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dev.private_kafka import PrivateKafka
from dev.private_postgres import PrivatePostgres
from dev.private_server import CHECKOUT, PrivateServer, ServiceError, free_port, say

ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

NOT_RUNNING = 3  # what init scripts exit with when asked for the status of a stopped service


class Services:
    """Both servers of one directory, and who needs them. Commands run at the same time agree
    through files in it: `lock` for starting and stopping, `lease` for using, `keep` for `up`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.postgres = PrivatePostgres(self.directory / "postgres")
        self.kafka = PrivateKafka(self.directory / "kafka")
        self.env_file = self.directory / "env"
        self._keep = self.directory / "keep"

    def up(self) -> None:
        """Both, until `down`."""
        with self._alone():
            self._start(self.postgres, self.kafka)
            self._keep.touch()

    def down(self, *, force: bool = False) -> bool:
        """False if they stay up for now, because another command uses them and stops them later."""
        with self._alone():
            self._keep.unlink(missing_ok=True)
            if not force and self._is_leased():
                return False
            self._stop()
            return True

    def remove(self) -> None:
        """Stops both, whoever uses them, and deletes their data."""
        with self._alone():
            self._keep.unlink(missing_ok=True)
            self.postgres.remove()
            self.kafka.remove()
            self.env_file.unlink(missing_ok=True)

    @contextmanager
    def leased(self, outside: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The services are up for the length of the block; gives the environment to use them.

        What `outside`, the caller's environment, says about a server of its own goes through.
        """
        wanted: list[PrivateServer] = []
        wanted += [] if outside.get("DB_HOST") else [self.postgres]
        wanted += [] if outside.get("KAFKA_BROKERS") else [self.kafka]
        with self._lease_file() as lease:
            try:
                with self._alone():
                    fcntl.flock(lease, fcntl.LOCK_SH)
                    self._start(*wanted)
                yield self._environment(outside)
            finally:
                with _undisturbed(), self._alone():
                    fcntl.flock(lease, fcntl.LOCK_UN)
                    if not self._keep.exists() and not self._is_leased():
                        self._stop()

    def settings(self) -> dict[str, str]:
        """What `.dev/env` holds."""
        try:
            lines = self.env_file.read_text().splitlines()
        except FileNotFoundError:
            return {}
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _environment(self, outside: Mapping[str, str]) -> dict[str, str]:
        settings = self.settings()
        if outside.get("DB_HOST"):
            settings = {k: v for k, v in settings.items() if not k.startswith("DB_")}
        # The private servers' whereabouts hold together; any other setting is the caller's choice.
        ours = {k: v for k, v in settings.items() if _is_whereabouts(k) or not outside.get(k)}
        if outside.get("KAFKA_BROKERS"):
            ours.pop("KAFKA_BROKERS", None)
        return {**outside, **ours}

    def _start(self, *servers: PrivateServer) -> None:
        with ThreadPoolExecutor() as pool:  # leaving it waits for all
            starts = [pool.submit(_start, server) for server in servers]
        for start in starts:
            start.result()
        self._write_settings(servers)

    def _stop(self) -> None:
        with ThreadPoolExecutor() as pool:
            stops = [pool.submit(_stop, server) for server in (self.postgres, self.kafka)]
        for stop in stops:
            stop.result()

    def _write_settings(self, started: Sequence[PrivateServer]) -> None:
        """Secrets and the server's port are made once; what did not start keeps its lines."""
        settings = {
            "KAFKA_TOPIC_PREFIX": "kilat-pet-runner",
            "SERVICE_PORT": str(free_port()),
            "JWT_SECRET": secrets.token_hex(32),
            **self.settings(),
        }
        if self.postgres in started:
            settings |= {
                "DB_HOST": "127.0.0.1",
                "DB_PORT": str(self.postgres.port),
                "DB_USER": self.postgres.user,
                "DB_PASSWORD": self.postgres.password,
                "DB_NAME": self.postgres.database,
            }
        if self.kafka in started:
            settings["KAFKA_BROKERS"] = self.kafka.brokers
        draft = self.env_file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text("".join(f"{key}={value}\n" for key, value in sorted(settings.items())))
        draft.rename(self.env_file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time starts and stops; the next waits here."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _lease_file(self) -> Iterator[int]:
        """The kernel gives a lease back when its holder dies, however that happens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lease").open("w") as file:
            yield file.fileno()

    def _is_leased(self) -> bool:
        with self._lease_file() as lease:
            try:
                fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


@contextmanager
def _undisturbed() -> Iterator[None]:
    """An impatient second Ctrl-C waits until the servers have stopped, instead of leaving them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_whereabouts(key: str) -> bool:
    return key.startswith("DB_") or key == "KAFKA_BROKERS"


def _start(server: PrivateServer) -> None:
    if server.pid is not None:
        server.start()  # waits until it answers
        return
    begin = time.monotonic()
    server.start()
    seconds = time.monotonic() - begin
    say(f"{server.name} is up at 127.0.0.1:{server.port} after {seconds:.1f} s ({server.log})")


def _stop(server: PrivateServer) -> None:
    if server.pid is None:
        return
    begin = time.monotonic()
    server.stop()
    say(f"{server.name} stopped in {time.monotonic() - begin:.1f} s")


def run(services: Services, command: list[str]) -> int:
    """Runs the command while the services are up; returns its status as a shell would."""
    with services.leased(os.environ) as environment:
        program = shutil.which(command[0], path=environment.get("PATH"))
        if program is None:
            raise ServiceError(f"there is no program {command[0]}")
        return _run_and_forward([program, *command[1:]], environment)


def _run_and_forward(command: list[str], environment: Mapping[str, str]) -> int:
    """Waits for the command. It gets each signal that we get, once.

    Ctrl-C goes to every process of a terminal. So with a terminal the command stays in our
    group, can read from it, and that signal is not passed on. Otherwise it has a group of its
    own, and a signal that somebody sends to our whole group does not reach it twice.
    """
    awaited = ENDINGS | {signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored SIGCHLD, inherited, never comes
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        child = subprocess.Popen(
            command,
            env=environment,
            process_group=None if sys.stdin.isatty() else 0,
            # The mask is inherited, and a program does not expect it. No thread runs any more.
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),  # noqa: PLW1509
        )
        while child.poll() is None:
            got = signal.sigwaitinfo(awaited)
            if got.si_signo in ENDINGS and not _is_from_terminal(got):
                child.send_signal(got.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _is_from_terminal(got: signal.struct_siginfo) -> bool:
    si_kernel = 0x80  # not in Python's signal module; a sent signal has 0 (SI_USER)
    return got.si_code == si_kernel and sys.stdin.isatty()


def status(services: Services) -> int:
    """Prints what runs and where; the exit status says whether both do."""
    servers: list[PrivateServer] = [services.postgres, services.kafka]
    for server in servers:
        pid = server.pid
        where = f"127.0.0.1:{server.port}, process {pid}" if pid else "not running"
        print(f"{server.name:<11} {where}, files in {server.directory}")
    return 0 if all(server.pid for server in servers) else NOT_RUNNING


def show_env(services: Services) -> int:
    """Prints the settings, for a person or `export $(...)`."""
    print("".join(f"{key}={value}\n" for key, value in services.settings().items()), end="")
    return 0 if services.settings() else NOT_RUNNING


def down(services: Services, *, force: bool) -> int:
    if not services.down(force=force):
        say("still in use by a running command; stopped when that ends (--force: now)")
    return 0


def _arguments() -> argparse.Namespace:
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument("--dir", type=Path, default=CHECKOUT / ".dev", help="default: .dev")
    parser = argparse.ArgumentParser(
        prog="python -m dev.services",
        description="Private PostgreSQL and Kafka of this checkout.",
    )
    actions = parser.add_subparsers(dest="action", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, parents=[directory], help=text, description=text)

    action("up", "start what is not running, until `down`")
    stop = action("down", "stop both, or leave it to the last command that uses them")
    stop.add_argument("--force", action="store_true", help="even under a command that uses them")
    action("remove", "stop both at once and delete their data")
    action("status", f"what runs and where; exit status {NOT_RUNNING} unless both do")
    action("env", "print the settings from the file `env`")
    command = action("run", "run a command with the services and their settings")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD")
    return parser.parse_args()


def _act(arguments: argparse.Namespace) -> int:
    services = Services(arguments.dir)
    match arguments.action:
        case "up":
            services.up()
            say(f"settings are in {services.env_file}")
            return 0
        case "down":
            return down(services, force=arguments.force)
        case "remove":
            services.remove()
            return 0
        case "status":
            return status(services)
        case "env":
            return show_env(services)
        case _:
            command = arguments.command
            command = command[1:] if command[:1] == ["--"] else command
            if not command:
                raise ServiceError("run what? python -m dev.services run -- CMD ...")
            return run(services, command)


def main() -> int:
    # Ends as Ctrl-C does, through every `finally`: a start that is under way is undone.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        return _act(_arguments())
    except ServiceError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
