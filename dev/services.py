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
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dev.private_server import CHECKOUT, PrivateServer, ServiceError, say
from dev.private_services import ENDINGS, Services

NOT_RUNNING = 3  # what init scripts exit with when asked for the status of a stopped service


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
    directory.add_argument(
        "--dir",
        type=Path,
        default=CHECKOUT / ".dev",
        help="where their files are [.dev of this checkout]",
    )
    parser = argparse.ArgumentParser(
        prog="python -m dev.services",
        description="The private PostgreSQL and Kafka of this checkout. `make test`, `make run` and"
        " `make demo` start them themselves; `up` keeps them on in between.",
    )
    actions = parser.add_subparsers(dest="action", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, parents=[directory], help=text, description=text)

    action("up", "start both, and keep them on until `down`")
    stop = action("down", "stop both; while a command uses them, when it ends")
    stop.add_argument(
        "--force", action="store_true", help="at once, also while a command uses them"
    )
    action("remove", "stop both at once and delete their data")
    action("status", f"tell what runs and where; exit status {NOT_RUNNING} unless both do")
    action("env", "print the settings that reach them, for `export $(...)`")
    command = action("run", "run a command with both on, and their settings in its environment")
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
