"""Rooms of all sizes, and the whole way from Kafka to a thousand rooms of one viewer."""

from functools import partial
from typing import Final

from bench.fanout.measure import watched
from bench.fanout.subjects import service
from bench.floors import produce_to_poll
from bench.report import table

# (rooms, viewers in each, messages a second over all rooms)
SIZES: Final = (
    (1, 1, 1_000.0),
    (1, 10, 1_000.0),
    (1, 1_000, 20.0),
    (1, 10_000, 2.0),
    (10_000, 1, 1_000.0),
)
SECONDS: Final = 4.0
LATENCY_ROOMS: Final = 1_000
LATENCY_RATE: Final = 1_000.0
LATENCY_S: Final = 10.0
# So many of a room's viewers are parsed for their delay.
SAMPLE: Final = 100


def rooms(environ: dict[str, str]) -> str:
    """Messages offered to the broadcast: how its cost grows with the room."""
    rows = []
    for count, size, rate in SIZES:
        with service(environ, count) as ours:
            targets, every = ours.targets(count * size, count), max(count * size // SAMPLE, 1)
            with watched(ours, targets, first=True, every=every) as (viewers, _):
                offer = partial(ours.offer, trips=count)
                found = viewers.offered(offer, rate, SECONDS, size)
        rows.append(
            [f"{count:,} of {size:,}", f"{rate:,.0f}", f"{rate * size:,.0f}", f"{found.cpu_us:.2f}",
             f"{found.cpu_us * size:,.0f}", f"{found.p50_ms:.1f} {found.p99_ms:.1f}",
             str(found.missing)]
        )  # fmt: skip
    head = ["rooms of viewers", "messages/s", "deliveries/s", "CPU µs a delivery",
            "CPU µs a message", "p50, p99 ms", "missing"]  # fmt: skip
    return table(head, rows)


def latency(environ: dict[str, str]) -> str:
    """From the producer's send() to the viewer's socket."""
    with service(environ, LATENCY_ROOMS) as ours:
        targets = ours.targets(LATENCY_ROOMS, LATENCY_ROOMS)
        with watched(ours, targets, first=True, every=1) as (viewers, _):
            produce = partial(ours.produce, trips=LATENCY_ROOMS)
            found = viewers.offered(produce, LATENCY_RATE, LATENCY_S, 1)
        job = ours.job(int(LATENCY_RATE), LATENCY_S, LATENCY_ROOMS)
        bare = produce_to_poll(job)
    return table(
        [f"{LATENCY_RATE:,.0f} updates/s, {LATENCY_ROOMS:,} rooms of one", "p50 ms", "p99 ms",
         "missing"],
        [["bare produce to poll", f"{bare[0]:.1f}", f"{bare[2]:.1f}", ""],
         ["**Kafka to viewer**", f"{found.p50_ms:.1f}", f"{found.p99_ms:.1f}", str(found.missing)],
         ["times", f"{found.p50_ms / bare[0]:.1f}", f"{found.p99_ms / bare[2]:.1f}", ""]],
    )  # fmt: skip
