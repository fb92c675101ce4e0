"""Collectors of verdicts: a part of `Metrics`."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

from tracking.domain.verdicts import Verdict


class VerdictMetrics:
    """Any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.flagged = Counter(
            "tracking_waypoints_flagged",
            "Verdicts of waypoints of running trips that became pending, and that became jumps.",
            ["verdict"], registry=registry,
        )  # fmt: skip
        for verdict in (Verdict.JUMP, Verdict.PENDING):
            self.flagged.labels(verdict.name.lower())

    def count(self, verdicts: Mapping[Verdict, int]) -> None:
        """As a committed batch changed them; those that are OK again are not counted."""
        for verdict, number in verdicts.items():
            if verdict is not Verdict.OK:
                self.flagged.labels(verdict.name.lower()).inc(number)
