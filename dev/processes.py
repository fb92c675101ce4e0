"""Processes as /proc shows them, of whoever started them."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def send_signal(pid: int, number: signal.Signals) -> None:
    """To a process that may be gone by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def first_number(file: Path) -> int | None:
    try:
        return int(file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def arguments_of(pid: int) -> list[str]:
    """The command line; empty if there is no such process, or only its zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def children_of(parent: int) -> list[int]:
    return [int(d.name) for d in Path("/proc").glob("[0-9]*") if _parent(d) == parent]


def _parent(process: Path) -> int | None:
    try:
        # "pid (name) state ppid ...", and a name may hold spaces and brackets.
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
