"""Every process is replaced, one after the other, while a thousand viewers watch."""

import os
import sys
from collections.abc import Callable
from typing import Final

from bench.nodes import Cluster, Node, cluster
from bench.report import quantiles, table
from tests.resuming import Crowd
from tests.running import wait_until

VIEWERS: Final = 1_000
TRIPS: Final = 30
RATE: Final = 30.0
WAYS: Final[dict[str, Callable[[Node], None]]] = {
    "blue and green": Node.switch,
    "one instance": Node.restart,
}
# A guard against hanging.
PATIENCE_S: Final = 30.0
BACK_S: Final = 90.0


def run(environ: dict[str, str]) -> str:
    """The table; some two minutes."""
    rows = []
    for name, replace in WAYS.items():
        print(f"bench: rolling, {name}", file=sys.stderr)
        with cluster(environ, TRIPS, RATE) as company:
            rows.append([name, *_rolled(company, replace)])
    head = ["", "handshakes that failed", "closed with", "recovered", "missing, twice",
            "away s: p50, p99, most", "oldest live position, s"]  # fmt: skip
    load = os.getloadavg()[0]
    return (
        f"{VIEWERS:,} viewers of `tracking.v1` on two nodes, {RATE:.0f} updates/s of {TRIPS} trips;"
        " what stores is restarted, then each node's process. A client comes back within half a"
        f" second at random, whatever it is told. Load average {load:.1f}.\n\n{table(head, rows)}"
    )


def _rolled(company: Cluster, replace: Callable[[Node], None]) -> list[str]:
    with Crowd(company.viewers(VIEWERS, PATIENCE_S)) as crowd:
        wait_until(crowd.are_right, "everybody watches", BACK_S)
        first_failures = len(crowd.failed())
        company.ingest.restart()
        for node in company.lives:
            replace(node)
            wait_until(crowd.are_right, "everybody is back", BACK_S)
        company.end()
        wait_until(lambda: crowd.have(company.sent), "everything was told", BACK_S)
    assert crowd.problems() == [], crowd.problems()[:5]
    assert all(sorted(v.points) == list(range(1, v.last + 1)) for v in crowd.viewers)
    assert "Traceback" not in company.log.read_text()
    p50, _, p99 = quantiles(crowd.away_s())
    codes = ", ".join(f"{count} × {code}" for code, count in sorted(crowd.codes().items()))
    return [
        f"{len(crowd.failed()) - first_failures} of {sum(v.welcomes for v in crowd.viewers):,}",
        codes, f"{sum(v.recovered for v in crowd.viewers):,}", "0, 0",
        f"{p50:.2f}, {p99:.2f}, {crowd.away_s()[-1]:.2f}", f"{crowd.oldest_s():.1f}",
    ]  # fmt: skip
