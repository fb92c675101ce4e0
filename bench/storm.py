"""Ten thousand viewers join two nodes at once, while positions come."""

import os
import time
from typing import Final

from bench.nodes import Cluster, cluster
from bench.report import table
from bench.talk import cpu_seconds, rss_kb
from tests.resuming import Crowd
from tests.running import wait_until

VIEWERS: Final = 10_000
TRIPS: Final = 100
RATE: Final = 30.0
# A client that gives up comes again, which is an error here.
PATIENCE_S: Final = 120.0
RIGHT_S: Final = 300.0


def run(environ: dict[str, str]) -> str:
    """The table; some two minutes."""
    with cluster(environ, TRIPS, RATE) as company:
        pids = [node.instance.pid for node in company.lives]
        memory, cpu = _memory_kb(pids), _cpu(pids)
        crowd = Crowd(company.viewers(VIEWERS, PATIENCE_S))
        began = time.perf_counter()
        with crowd:
            wait_until(crowd.are_right, "everybody is right", RIGHT_S)
            right_s, load = time.perf_counter() - began, os.getloadavg()[0]
            cpu = _cpu(pids) - cpu
            company.end()
            wait_until(lambda: crowd.have(company.sent), "everything was told", RIGHT_S)
            each_kb = (_memory_kb(pids) - memory) / VIEWERS
        _prove(company, crowd)
    head = ["viewers", "all right after, s", "errors", "missing, twice", "joins/s",
            "joins for a second of the servers' CPU", "memory for each, kB"]  # fmt: skip
    row = [
        f"{VIEWERS:,}", f"{right_s:.1f}", str(len(crowd.failed())), "0, 0",
        f"{VIEWERS / right_s:,.0f}", f"{VIEWERS / cpu:,.0f}", f"{each_kb:.1f}",
    ]  # fmt: skip
    return (
        f"Two live processes and their clients on the same cores, {RATE:.0f} updates/s of {TRIPS}"
        f" trips; all connect at once. Load average {load:.1f}.\n\n{table(head, [row])}"
    )


def _prove(company: Cluster, crowd: Crowd) -> None:
    assert crowd.problems() == [], crowd.problems()[:5]
    assert all(sorted(v.points) == list(range(1, v.last + 1)) for v in crowd.viewers)
    assert "Traceback" not in company.log.read_text()


def _memory_kb(pids: list[int]) -> int:
    return sum(rss_kb(pid) for pid in pids)


def _cpu(pids: list[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids)
