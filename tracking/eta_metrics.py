"""Collectors of ETAs: a part of `Metrics`."""

from prometheus_client import CollectorRegistry, Counter


class EtaMetrics:
    """Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.covered = Counter(
            "tracking_eta_covered",
            "Arrivals within the ETA's band, and outside of it, at the first waypoint of each"
            " distance band.",
            ["phase", "covered"], registry=registry,
        )  # fmt: skip
        for phase in ("to_pickup", "to_dropoff"):
            for covered in ("true", "false"):
                self.covered.labels(phase, covered)
