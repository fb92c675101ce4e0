"""CPU seconds by stage: the server's threads by their own metric, PostgreSQL and Kafka by /proc."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.report import table
from tests.running import Server

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
OTHERS: Final = {"postgres": "PostgreSQL", "java": "Kafka"}


def cpu_seconds(server: Server) -> dict[str, float]:
    """Since the start of each. All of the machine's PostgreSQL and Kafka: run nothing beside."""
    text = server.get("/metrics")[1].decode()
    samples = re.findall(r'tracking_thread_cpu_seconds_total\{thread="(\w+)"\} (\S+)', text)
    found = {f"server: {name}": float(value) for name, value in samples}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (process / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # it ended meanwhile
        if name in OTHERS:
            ticks = sum(int(field) for field in fields.split()[11:13])
            found[OTHERS[name]] = found.get(OTHERS[name], 0.0) + ticks / TICKS_PER_SECOND
    return found


def stages(runs: Mapping[str, Mapping[str, float]], digits: int = 1) -> str:
    """A table: a row for each stage, a column for each run."""
    names = sorted({name for each in runs.values() for name in each})
    rows = [
        [name, *(f"{each.get(name, 0):.{digits}f}" for each in runs.values())] for name in names
    ]
    total = [f"{sum(each.values()):.{digits}f}" for each in runs.values()]
    return table(["stage", *runs], [*rows, ["all", *total]])
