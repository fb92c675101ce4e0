"""Arrivals as maintenance finds them, and whether ETAs came true. Maintenance's thread."""

import logging
import threading
import time
from functools import partial
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.changes import BookingChanges
from tracking.domain.eta import Eta, Sample, estimate
from tracking.domain.trip_eta import Samples, is_soon, soon_m
from tracking.domain.verdicts import Rule
from tracking.metrics import Metrics
from tracking.store.maintenance.arriving import Settled, note_arrivals
from tracking.store.maintenance.looking import Looks
from tracking.store.read.samples import read_samples

log = logging.getLogger("tracking.arrivals")

HISTORY_S: Final = 60.0


class ArrivalWatch:
    """What is to be told waits in it until `take`."""

    def __init__(self, engine: sa.Engine, metrics: Metrics, rule: Rule) -> None:
        self._engine = engine
        self._metrics = metrics
        self._rule = rule
        self._looks = Looks()
        self._samples = Samples()
        self._samples_at = 0.0  # time.monotonic() of the next reading
        self._changes: list[BookingChanges] = []
        self._lock = threading.Lock()  # of `_changes`: the IOLoop takes them meanwhile

    def look(self) -> None:
        """One round over the trips that are under way."""
        if time.monotonic() >= self._samples_at:
            self._samples = read_samples(self._engine, self._samples)
            self._samples_at = time.monotonic() + HISTORY_S
            history = self._samples.history
            self._looks.soon_m = soon_m(history, "pickup"), soon_m(history, "dropoff")
        soon = partial(is_soon, self._samples.history)
        self._keep(note_arrivals(self._engine, self._looks, self._rule, soon, self._failed))

    def _failed(self, track_id: UUID, error: Exception, is_first: bool) -> None:
        self._metrics.maintenance_errors.labels("arrivals").inc()
        if is_first:
            text = "the arrivals of track %s cannot be computed, trying on"
            log.warning(text, track_id, exc_info=error)

    def settled(self, settled: Settled) -> None:
        """A trip has ended, and what its ways say for ETAs was kept."""
        self._keep(settled.changes)
        for sample in settled.samples:
            self._count(sample)

    def _count(self, sample: Sample) -> None:
        """By the history without this trip, as its viewers were told; nothing without an ETA."""
        history, phase = self._samples.history, sample.phase
        eta, took_s = estimate(history, phase, sample.metres, 0.0), sample.seconds
        if sample.router_s and sample.router_took_s:
            routed = estimate(history, phase, sample.metres, 0.0, sample.router_s)
            if isinstance(routed, Eta):
                eta, took_s = routed, sample.router_took_s
        if isinstance(eta, Eta):
            covered = eta.earliest <= took_s <= eta.latest
            self._metrics.etas.covered.labels(phase, str(covered).lower(), eta.method).inc()

    def take(self) -> list[BookingChanges]:
        """What has not been told yet. Any thread."""
        with self._lock:
            changes, self._changes = self._changes, []
        return changes

    def _keep(self, changes: list[BookingChanges]) -> None:
        with self._lock:
            self._changes += changes
