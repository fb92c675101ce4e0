"""Which thread eats the core: CPU seconds by thread, read from Linux when Prometheus scrapes."""

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

MAIN_THREAD: Final = "MainThread"
# What a thread's name begins with -> its label; kafka-python's own threads among them.
LABELS: Final = {
    MAIN_THREAD: "loop",
    "consumer": "consumer",
    "ingest": "ingest",
    "outgoing": "outgoing",
    "dead-letters": "dead_letters",
    "requests": "requests",
    "maintenance": "maintenance",
    "kafka-io": "kafka_io",
    "relay": "relay",
}
TASKS: Final = Path("/proc/self/task")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class ThreadCpu(Collector):
    """Counts on while threads come and go. The thread that scrapes."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._seen: dict[int, float] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        self._measure()
        family = CounterMetricFamily(
            "tracking_thread_cpu_seconds", "CPU time by thread.", labels=["thread"]
        )
        for label, seconds in sorted(self._seconds.items()):
            family.add_metric([label], seconds)
        yield family

    def _measure(self) -> None:
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        names[os.getpid()] = MAIN_THREAD  # Linux numbers it so; Python may not know, after a fork
        now = {int(task.name): _seconds_of(task) for task in TASKS.glob("[0-9]*")}
        for task, seconds in now.items():
            self._seconds[_label(names.get(task, ""))] += seconds - self._seen.get(task, 0.0)
        self._seen = now


def _label(name: str) -> str:
    if name.endswith("-network-thread"):  # begins with the client's id
        return "kafka_producer"
    return next((label for start, label in LABELS.items() if name.startswith(start)), "other")


def _seconds_of(task: Path) -> float:
    """User and system time: fields 14 and 15 of proc(5)'s stat; 0 for a thread that is gone."""
    try:
        fields = (task / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
