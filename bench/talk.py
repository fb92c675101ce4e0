"""A process that answers JSON lines with JSON lines; what the operating system says of it."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Talk:
    """Ask, then read the answer; at the end the process is gone."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **job: Any) -> dict[str, Any]:
        self.tell(**job)
        return self.answer()

    def tell(self, **job: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"process {self.pid} ended: {self._process.args!r}"
        answer: dict[str, Any] = json.loads(line)
        return answer


def cpu_seconds(pid: int) -> float:
    """On a core so far, all threads: proc(5)'s schedstat, in nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # it ended meanwhile
    return total / 1e9


def rss_kb(pid: int, field: str = "VmRSS") -> int:
    """Resident memory; `VmHWM` is the most that it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {field} of process {os.getpid()}")
