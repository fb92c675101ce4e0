"""The processes of the demo: started, waited for, killed and stopped, each with its log."""

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from dev.demo_environment import CHECKOUT, DemoError, logs_of

READY_S: Final = 60.0
# What the server promises; afterwards it is killed.
STOP_S: Final = 20.0


class Part:
    """A child process with its log."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name = name
        self.log = logs_of(environ) / f"{name}.log"
        self.log.write_bytes(b"")
        self._command, self._environ = command, environ
        self._is_killed = False
        self.start()

    def start(self) -> None:
        self._is_killed = False
        with self.log.open("ab") as out:
            # A session of its own: Ctrl-C is ours to pass on, in order.
            self.process = subprocess.Popen(
                self._command, cwd=CHECKOUT, env=self._environ, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def check(self) -> None:
        """Raises DemoError if it ended by itself."""
        if not self._is_killed and (status := self.process.poll()) is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise DemoError(f"{self.name} ended with status {status}:\n{tail}")

    def wait_ready(self, url: str) -> None:
        """Raises DemoError if it ends instead."""
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            self.check()
            try:
                with urlopen(url, timeout=5):  # noqa: S310 - our own server
                    return
            except (URLError, OSError):
                time.sleep(0.1)
        raise DemoError(f"{self.name} not ready after {READY_S:.0f} s, see {self.log}")

    def kill(self) -> None:
        """On purpose: it is to be started again."""
        self._is_killed = True
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        stop((self,))


def stop(parts: Iterable[Part]) -> None:
    """All at once."""
    left = list(parts)
    for part in left:
        if part.process.poll() is None:
            part.process.terminate()
    end = time.monotonic() + STOP_S
    for part in left:
        try:
            part.process.wait(max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            part.process.kill()
            part.process.wait()
