"""Collectors of the access log: a part of `Metrics`."""

from prometheus_client import CollectorRegistry, Counter


class AccessMetrics:
    """Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.logged = Counter(
            "tracking_accesses_logged", "Rows of the access log that were written.",
            registry=registry,
        )  # fmt: skip
        self.lost = Counter(
            "tracking_accesses_lost", "Reads that are in no row of the access log.",
            registry=registry,
        )  # fmt: skip
