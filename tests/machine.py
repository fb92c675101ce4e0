"""A machine with a systemd of its own: process 1 of namespaces, on a copy of our files."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from uuid import uuid4

from dev.processes import children_of
from tests.running import CHECKOUT, wait_until

SYSTEMD = Path("/lib/systemd/systemd")
SCRIPT = CHECKOUT / "tests" / "machine.sh"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
STOP_S = 40.0
# The hierarchy is mounted for this command only, and a group of it is ours.
IN_GROUP = """
mount -t cgroup2 cgroup2 "$1" && mkdir "$1/$2" && echo $$ >"$1/$2/cgroup.procs" &&
  umount "$1" || exit 3
shift 2
exec "$@"
"""
LEAVE_GROUP = 'mount -t cgroup2 cgroup2 "$1" && find "$1/$2" -depth -type d -delete'


class Machine:
    """Shares this machine's network, and nothing that it writes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._groups = folder / "machine", folder / "groups"
        self._name = f"machine-{uuid4().hex[:8]}"
        self._log = folder / "systemd.log"
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0

    def why_not(self) -> str | None:
        """What keeps this machine from it, as a sentence."""
        if os.geteuid() != 0:
            return "only root may make the namespaces of a machine"
        missing = [name for name in ("unshare", "nsenter") if not shutil.which(name)]
        if not SYSTEMD.exists() or missing:
            return f"not installed: {', '.join(missing) or 'systemd'}"
        with self._log.open("wb") as log:
            done = subprocess.run(self._command("probe"), stdout=log, stderr=log)
        self._forget()
        said = self._log.read_text().strip().splitlines()
        return None if done.returncode == 0 else f"no namespaces or cgroup2 to be had: {said[-1:]}"

    def _command(self, what: str) -> list[str]:
        for each in (self._folder, self._groups):
            each.mkdir(exist_ok=True)
        group = ["unshare", "-m", "--propagation", "private", "sh", "-c", IN_GROUP, "sh"]
        spaces = ["unshare", "-m", "-p", "-i", "-u", "-C", "--fork", "--kill-child"]
        script = ["--propagation", "private", "sh", str(SCRIPT), what, str(self._folder)]
        return [*group, str(self._groups), self._name, *spaces, *script]

    def start(self) -> "Machine":
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(self._command("boot"), stdout=log, stderr=log)
        wait_until(self._is_up, "systemd runs")
        return self

    def _is_up(self) -> bool:
        assert self._outer is not None
        assert self._outer.poll() is None, self._log.read_text()
        self._first = next(iter(children_of(self._outer.pid)), 0)
        if not self._first or Path(f"/proc/{self._first}/exe").readlink() != SYSTEMD.resolve():
            return False
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def stop(self) -> None:
        """Powered off; what it wrote is gone."""
        if self._outer is None:
            return
        if self._first:
            os.kill(self._first, signal.SIGRTMIN + 4)
        try:
            self._outer.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._outer.kill()
            self._outer.wait()
        self._forget()

    def _forget(self) -> None:
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", LEAVE_GROUP, "sh"]
        subprocess.run([*command, str(self._groups), self._name], stderr=subprocess.DEVNULL)

    def run(
        self, *arguments: str, status: int | None = None, timeout: float = 170, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """A command on it; `status`: what it has to end with."""
        inside = ["nsenter", "-t", str(self._first), "-m", "-p", "-i", "-u", "-C"]
        settings = [f"{name}={value}" for name, value in {"PATH": PATH, **environ}.items()]
        done = subprocess.run(
            [*inside, "env", "-i", "--chdir=/", *settings, *arguments], text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert status in (None, done.returncode), f"{arguments}: {done.returncode}\n{done.stdout}"
        return done

    def path(self, path: str) -> Path:
        """A file of it, as seen from here."""
        return Path(f"/proc/{self._first}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def shows(self, unit: str, *properties: str) -> list[str]:
        """What `systemctl show` says, in the order of the question."""
        said = self.run("systemctl", "show", "-p", ",".join(properties), unit, status=0).stdout
        found = dict(line.split("=", 1) for line in said.splitlines())
        return [found[name] for name in properties]

    def main_pid(self, unit: str) -> int:
        """Of its process, as it is numbered there."""
        return int(self.shows(unit, "MainPID")[0])


def tree(root: Path) -> set[str]:
    """Everything below it, for a comparison."""
    if not root.exists():
        return set()
    found = (Path(at, name) for at, dirs, files in os.walk(root) for name in (*dirs, *files))
    return {str(path.relative_to(root)) for path in found}
