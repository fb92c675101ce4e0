"""Collectors of the trips that are shown again: a part of `Metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReplayMetrics:
    """Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge(
            "tracking_replays", "Trips that are shown again at this moment.", registry=registry
        )
        self.frames = Counter(
            "tracking_replay_frames", "Positions and late waypoints sent by replays.",
            registry=registry,
        )  # fmt: skip
