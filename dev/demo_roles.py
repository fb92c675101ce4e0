"""The demo with processes of both roles, each several times, nginx in front, and accidents.

`make demo ROLES=2`: every DEMO_KILL_SECONDS a process is killed (kill -9), one after the other, and
started again a second later; whoever watches goes on. nginx runs with deploy's configuration.
"""

import asyncio
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Mapping
from typing import Final

from dev.demo_environment import DemoError, logs_of, say
from dev.demo_parts import Part, stop
from dev.nginx import command, program
from dev.private_server import free_port

# Long enough to see that all is well in between.
KILL_S: Final = 15.0
# As systemd waits before it starts one again (RestartSec).
DOWN_S: Final = 1.0


def roles_of(environ: Mapping[str, str]) -> int:
    """How many processes of each role; 0 for one process that is both."""
    text = environ.get("ROLES", "") or "0"
    if not text.isdecimal() or int(text) > 8:
        raise DemoError(f"ROLES: found {text!r}, expected how many processes of each role, up to 8")
    if int(text) and program("nginx") is None:
        raise DemoError("nginx is missing: `make setup ROLES=2` installs it")
    return int(text)


class Processes:
    """`number` that store, `number` that serve; all stop with the stack."""

    def __init__(
        self, stack: contextlib.ExitStack, environ: Mapping[str, str], number: int
    ) -> None:
        self._ports: dict[str, int] = {}
        self._taken = {int(environ["SERVICE_PORT"])}  # nginx's
        self.parts: list[Part] = []
        stack.callback(stop, self.parts)
        say(f"{number} processes that store, {number} that serve, and nginx start")
        for index in range(1, number + 1):
            # A static member: started again within 45 s it keeps its partitions.
            member = f"{environ['KAFKA_GROUP_ID']}-{index}"
            self._start(f"ingest-{index}", {**environ, "KAFKA_INSTANCE_ID": member})
            self._start(f"live-{index}", environ)
        for part in self.parts:
            part.wait_ready(self._readiness(part))
        self._start_nginx(environ)

    def _start(self, name: str, environ: Mapping[str, str]) -> None:
        port = self._ports[name] = self._free_port()
        own = {**environ, "SERVICE_ADDRESS": "127.0.0.1", "SERVICE_PORT": str(port)}
        role = name.partition("-")[0]
        self.parts.append(Part(name, [sys.executable, "server.py", "--role", role], own))

    def _free_port(self) -> int:
        """That none of the others will listen on."""
        while (port := free_port()) in self._taken:
            pass
        self._taken.add(port)
        return port

    def _start_nginx(self, environ: Mapping[str, str]) -> None:
        folder = logs_of(environ) / "nginx"
        folder.mkdir(exist_ok=True)
        port = int(environ["SERVICE_PORT"])
        nodes = [port for name, port in self._ports.items() if name.startswith("live")]
        nginx = Part("nginx", command(folder, port, nodes), environ)
        self.parts.append(nginx)
        nginx.wait_ready(f"http://127.0.0.1:{port}/health")

    def _readiness(self, part: Part) -> str:
        return f"http://127.0.0.1:{self._ports[part.name]}/readiness"

    def introduction(self) -> str:
        """Where each one says how it does."""
        return "\n".join(
            f"  {name:<10}  http://127.0.0.1:{port}/readiness  /metrics"
            for name, port in sorted(self._ports.items())
        )

    async def accidents(self) -> None:
        """Until cancelled: one process at a time, the roles in turn."""
        seconds = float(os.environ.get("DEMO_KILL_SECONDS") or KILL_S)
        victims = [part for part in reversed(self.parts) if part.name in self._ports]
        for victim in itertools.cycle(victims):
            await asyncio.sleep(seconds)
            say(f"kill -9 {victim.process.pid} ({victim.name})")
            victim.kill()
            began = time.monotonic()
            await asyncio.sleep(DOWN_S)
            victim.start()
            await asyncio.to_thread(victim.wait_ready, self._readiness(victim))
            say(f"{victim.name} is back after {time.monotonic() - began:.1f} s")
