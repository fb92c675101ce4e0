"""Stops the intake when what fails is this service, not the events."""

import logging
from typing import Any, Final

from tracking.errors import TrackingError
from tracking.metrics import Metrics

log = logging.getLogger("tracking.breaker")

# One strange event may hit a bug of ours, and becomes a dead letter. So many different ones of one
# type without a good one between them mean that the deployed version cannot process this type.
LIMIT: Final = 5


class IntakeStopped(TrackingError):
    """Nothing more is read or stored until a restart; no offset goes past what failed."""


class Breaker:
    """Counts bugs that events hit, by stage and type of event.

    Each stage belongs to one thread: "decode" to the consumer thread, "store" to the IOLoop.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # Values of the events that failed since the last good one of their stage and type.
        self._failed: dict[tuple[str, str], set[bytes]] = {}
        self.reason: str | None = None  # why the intake is stopped. Any thread

    @property
    def has_suspects(self) -> bool:
        """Whether `succeeded` has anything to do: it is called for every event otherwise."""
        return bool(self._failed)

    def succeeded(self, stage: str, type_: str) -> None:
        """An event of this type was processed."""
        self._failed.pop((stage, type_), None)

    def failed(self, stage: str, type_: str, record: Any, error: Exception) -> None:
        """An error that is no fault of the record; raises IntakeStopped at the LIMIT-th event."""
        failed = self._failed.setdefault((stage, type_), set())
        failed.add(record.value or b"")
        if len(failed) < LIMIT:
            return
        self.reason = (
            f"a bug of this version: {len(failed)} events of type {type_} in a row failed at"
            f" {stage} with {type(error).__name__}; deploy a version without it"
        )
        self._metrics.intake_stopped.set(1)
        log.critical("intake stopped, nothing is lost: %s", self.reason, exc_info=error)
        raise IntakeStopped(self.reason)
