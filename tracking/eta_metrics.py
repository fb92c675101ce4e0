"""Collectors of ETAs: a part of `Metrics`."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# A router's own answers take some ms; after a second it is not waited for any more.
ROUTER_BUCKETS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class EtaMetrics:
    """Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.covered = Counter(
            "tracking_eta_covered",
            "Arrivals within the ETA's band, and outside of it, at the first waypoint of each"
            " distance band.",
            ["phase", "covered", "method"], registry=registry,
        )  # fmt: skip
        for phase in ("to_pickup", "to_dropoff"):
            for covered in ("true", "false"):
                self.covered.labels(phase, covered, "distance")
        self.router_requests = Counter(
            "tracking_eta_router_requests", "What was asked of ETA_ROUTER_URL.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        for outcome in ("ok", "no_route", "error", "timeout", "open"):
            self.router_requests.labels(outcome)
        self.router_request_seconds = Histogram(
            "tracking_eta_router_request_seconds", "How long the router took, answer or not.",
            buckets=ROUTER_BUCKETS, registry=registry,
        )  # fmt: skip
        self.router_open = Gauge(
            "tracking_eta_router_open", "1 while the router is not asked, since it did not answer.",
            registry=registry,
        )  # fmt: skip
