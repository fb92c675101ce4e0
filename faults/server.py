"""The server under a supervisor that starts it again when it dies, as systemd would."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.error import URLError

from faults.hosts import Host
from tests.running import CHECKOUT, Server, wait_until

# systemd's default.
RESTART_S: Final = 0.1
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What the process holds."""

    threads: int
    descriptors: int
    resident_mib: float


class SupervisedServer(Server):
    """Its port stays the same. `faults` (see the launcher) are for its first starts, one each.

    On a host of its own, or on this machine.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        log: Path,
        faults: Sequence[str] = (),
        restart: bool = True,
        role: str = "all",
        host: Host | None = None,
    ) -> None:
        super().__init__(environ, log)
        self._role = role
        self._prefix = () if host is None else host.prefix
        if host is not None:
            self.address = host.address
        self.port = int(environ["SERVICE_PORT"])
        self.statuses: list[int] = []  # of every process that ended
        self._faults = list(faults)
        self._restart = restart
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def start(self) -> "SupervisedServer":
        self._launch()
        self._keeper.start()
        return self

    def wait_ready(self) -> "SupervisedServer":
        wait_until(self.is_ready, "ready", 60)
        return self

    def is_ready(self) -> bool:
        return self.asks("/readiness")[0] == 200

    def is_dead(self) -> bool:
        return self.asks("/health")[0] == 0

    def asks(self, path: str, token: str | None = None) -> tuple[int, Any]:
        """Status and body; status 0 while nobody listens."""
        try:
            return self.get(path, token)[:2]
        except (URLError, OSError):
            return 0, None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def outages(self) -> int:
        """How often it died and was started again."""
        return len(self.statuses)

    def send_signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, with_signal: int = 15) -> int:
        """The exit status; nobody starts it again."""
        self._stopping.set()
        status = super().stop(with_signal)
        self._keeper.join(5)
        return status

    def usage(self) -> Usage:
        status = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return Usage(int(fields["Threads"]), descriptors, int(fields["VmRSS"].split()[0]) / 1024)

    def cpu_seconds(self) -> float:
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICKS

    def _launch(self) -> None:
        fault = self._faults.pop(0) if self._faults else ""
        program = ["-m", "faults.launcher"] if fault else ["server.py"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self._prefix, sys.executable, *program, "--role", self._role],
                cwd=CHECKOUT,
                env={**self.environ, "FAULT": fault},
                stderr=out,
            )

    def _keep(self) -> None:
        while not self._stopping.is_set():
            assert self.process is not None
            status = self.process.wait()
            self.statuses.append(status)
            if self._stopping.is_set() or not self._restart or status == 0:
                return
            if not self._stopping.wait(RESTART_S):
                self._launch()
