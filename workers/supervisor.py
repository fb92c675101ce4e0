"""What systemd is told, and what it hands over: sd_notify(3) and sd_listen_fds(3). IOLoop thread.

READY when readiness says so, a sentence as STATUS, and WATCHDOG from the loop, as long as the
threads live: so a process that hangs anywhere is killed and started again.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final

log = logging.getLogger("tracking.server")

FIRST_DESCRIPTOR: Final = 3
# systemd hears of a life sign three times before it would kill.
SIGNS: Final = 3
LOOK_S: Final = 1.0
# Before the first readiness the loop looks more often: the next process waits for it.
STARTING_S: Final = 0.1

Readiness = Callable[[], Awaitable[dict[str, str]]]


def inherited_sockets(
    environ: MutableMapping[str, str] = os.environ,
) -> dict[str, list[socket.socket]]:
    """Listening sockets that a socket unit has opened, by the names of FileDescriptorName.

    Taken once: children are not to find them.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "0")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    if pid != str(os.getpid()):
        return found
    for number in range(int(count)):
        descriptor = FIRST_DESCRIPTOR + number
        os.set_inheritable(descriptor, False)
        name = names[number] if number < len(names) else ""
        found.setdefault(name, []).append(socket.socket(fileno=descriptor))
    return found


class Supervisor:
    """Silent where there is none."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        pid, every = environ.pop("WATCHDOG_PID", ""), environ.pop("WATCHDOG_USEC", "")
        is_for_us = every.isdigit() and pid in ("", str(os.getpid()))
        self.sign_s = int(every) / 1e6 / SIGNS if is_for_us else None
        self._status = ""

    @property
    def is_there(self) -> bool:
        """Somebody listens."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """One datagram; a supervisor that is gone is no error of ours."""
        if not self._address:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            try:
                link.sendto("\n".join(lines).encode(), address)
            except OSError as error:
                log.warning("the supervisor is not told %s: %s", lines[0], error.strerror)

    def say(self, status: str, *lines: str) -> None:
        """A sentence for `systemctl status`, when it is another one."""
        if status != self._status or lines:
            self._status = status
            self.tell(*lines, f"STATUS={status}")

    def stopping(self) -> None:
        self.say("stopping", "STOPPING=1")


async def tell_supervisor(
    supervisor: Supervisor, readiness: Readiness, is_alive: Callable[[], bool]
) -> None:
    """Until cancelled, where there is one. `is_alive`: every thread has shown life lately."""
    if not supervisor.is_there:
        return
    is_ready, next_sign, loop = False, 0.0, asyncio.get_running_loop()
    while True:
        found = await readiness()
        problem = _problem(found)
        if problem is None and not is_ready:
            is_ready = True
            supervisor.say("ready", "READY=1")
        else:
            supervisor.say(problem or "ready")
        pause = LOOK_S if is_ready else STARTING_S
        if supervisor.sign_s is not None:
            pause = min(pause, supervisor.sign_s)
            if loop.time() >= next_sign and is_alive():
                next_sign = loop.time() + supervisor.sign_s
                supervisor.tell("WATCHDOG=1")
        await asyncio.sleep(pause)


def _problem(checks: dict[str, str]) -> str | None:
    """The first part that is not ok, as a sentence."""
    for name, answer in checks.items():
        if answer.partition(",")[0] != "ok":
            return f"not ready: {name} {answer}"
    return None
