"""Live viewers beside a backlog that drains in the same process, and beside viewers that stall."""

import sys
import time
from functools import partial
from typing import Final
from uuid import uuid4

from bench.backlog import TRIPS
from bench.fanout.measure import Offered, Watched, watched
from bench.fanout.peers_table import RATE, VIEWERS
from bench.fanout.subjects import Service, service
from bench.producing import produce, values
from bench.report import table
from bench.talk import rss_kb
from tests.running import wait_until

BACKLOG: Final = 1_000_000
PACED_S: Final = 10.0
SATURATED_S: Final = 6.0
TRIED_BACKLOG: Final = 500_000
TRIED_S: Final = 5.0
TRIED: Final = {
    "": "as it is (first: rows are new)",
    ",": "as it is",
    "send=each": "`send(2)` through PyDLL for each",
    "send=socket": "a call for each that gives up the GIL",
    "switch=0.005": "switch interval 5 ms",
    "switch=0.0001": "switch interval 0.1 ms",
    "poll=250": "polls of 250 records",
    "poll=250,wait=0.5": "polls of 250, each waits for the loop",
    "wait=0.5": "polls of 1,000, each waits for the loop",
    "cohort=256": "256 sends in a call",
    "worth=1000000": "each viewer is served by itself",
    "gc=700": "a collection every 700 allocations",
}
STALLED: Final = 500
# Fills what the kernel takes for a socket that is not read.
FILL_RATE: Final = 50.0
FILL_S: Final = 11.0  # some 190 kB
STALLED_S: Final = 2.0  # they are let go after five


def backlog(environ: dict[str, str]) -> str:
    """Messages come from beside Kafka: there they would wait behind the backlog."""
    with service(environ, TRIPS + 1, TRACKING_UPDATED="off") as ours:
        with watched(ours, ours.targets(VIEWERS), first=True) as (viewers, _):
            alone = _both(ours, viewers)
        ours.server.stop()
        produce(ours.brokers, ours.topic, values(ours.trips[1:], BACKLOG, 0.0))
        ours.start()
        with watched(ours, ours.targets(VIEWERS), first=True) as (viewers, _):
            before, started = ours.outcomes(), time.perf_counter()
            beside = _both(ours, viewers)
            after, seconds = ours.outcomes(), time.perf_counter() - started
    assert after < BACKLOG, "the backlog was over too soon"
    rows = [
        ["alone", *_cells(*alone), ""],
        ["beside", *_cells(*beside), f"{(after - before) / seconds:,.0f}"],
        ["beside / alone", "", f"{beside[0].p99_ms / alone[0].p99_ms:.1f}", "",
         f"{beside[1].rate / alone[1].rate:.2f}", ""],
    ]  # fmt: skip
    head = [f"backlog of {BACKLOG:,}", "missing", "p99 ms at 20,000/s", "CPU µs a delivery",
            "saturated, 1/s", "records drained, 1/s"]  # fmt: skip
    return table(head, rows)


def _both(ours: Service, viewers: Watched) -> tuple[Offered, Offered]:
    paced = viewers.offered(ours.offer, RATE, PACED_S)
    return paced, viewers.offered(ours.offer, 0, SATURATED_S)


def _cells(paced: Offered, flat: Offered) -> list[str]:
    missing = str(paced.missing + flat.missing)
    return [missing, f"{paced.p99_ms:.1f}", f"{paced.cpu_us:.2f}", f"{flat.rate:,.0f}"]


def _closed(ours: Service, count: int) -> bool:
    return ours.server.metric("tracking_connections_closed_total", code="4008") >= count


def tried(environ: dict[str, str]) -> str:
    """One change each, every one beside the same backlog, read anew by a group of its own.

    After the first of them its waypoints are duplicates: reading and resolving cost the same.
    """
    rows = []
    with service(environ, TRIPS + 1, TRACKING_UPDATED="off") as ours:
        ours.server.stop()
        produce(ours.brokers, ours.topic, values(ours.trips[1:], TRIED_BACKLOG, 0.0))
        for variant, meaning in TRIED.items():
            print(f"bench: {meaning}", file=sys.stderr)
            rows.append([meaning, *_variant(ours, variant)])
    head = ["", "missing", "p50, p99 ms at 20,000/s", "saturated, 1/s", "records drained, 1/s"]
    return table(head, rows)


def _variant(ours: Service, variant: str) -> list[str]:
    ours.server.environ |= {"BENCH_VARIANT": variant, "KAFKA_GROUP_ID": f"tried-{uuid4().hex}"}
    ours.start()
    with watched(ours, ours.targets(VIEWERS), first=True) as (viewers, _):
        before, started = ours.outcomes(), time.perf_counter()
        paced = viewers.offered(ours.offer, RATE, TRIED_S)
        flat = viewers.offered(ours.offer, 0, TRIED_S)
        drained = (ours.outcomes() - before) / (time.perf_counter() - started)
    ours.server.stop()
    return [f"{paced.missing + flat.missing}", f"{paced.p50_ms:.1f} {paced.p99_ms:.1f}",
            f"{flat.rate:,.0f}", f"{drained:,.0f}"]  # fmt: skip


def stalled(environ: dict[str, str]) -> str:
    """Some viewers never read: what they cost in memory, and the others in time."""
    found = {}
    for count in (0, STALLED):
        with (
            service(environ) as ours,
            watched(ours, ours.targets(VIEWERS), first=False, stalled=count, every=20) as (
                viewers,
                _,
            ),
        ):
            viewers.offered(ours.offer, RATE, 1.0)
            before = rss_kb(ours.pid)
            filling = viewers.offered(ours.offer, FILL_RATE, FILL_S)
            paced = viewers.offered(ours.offer, RATE, STALLED_S)
            found[count] = filling, paced, (rss_kb(ours.pid, "VmHWM") - before) / 1024
            wait_until(partial(_closed, ours, count), "the stalled are let go")
    rows = [
        [f"{count} of {VIEWERS:,}", str(filling.missing + paced.missing), f"{paced.p50_ms:.1f}",
         f"{paced.p99_ms:.1f}", f"{growth:+.1f}"]
        for count, (filling, paced, growth) in found.items()
    ]  # fmt: skip
    ratio = found[STALLED][1].p99_ms / found[0][1].p99_ms
    rows.append(["with / without", "", "", f"{ratio:.2f}", ""])
    head = ["stalled", "missing at the others", "their p50 ms", "their p99 ms", "memory, MiB"]
    return table(head, rows)
