"""Outgoing events to Kafka: at least once, with stable ids, in order for each booking.

A thread of its own, since it waits for the database and for Kafka in turn. One process at a time
drains (advisory lock); the others wait for their turn. Nothing else waits for this thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID, uuid5

import sqlalchemy as sa
from kafka import KafkaProducer
from kafka.errors import KafkaError

from tracking.database import is_transient
from tracking.messages import envelope, rfc3339
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store import outbox
from tracking.store.outbox import OutboxRow, UnsentWaypoint
from workers.brokers import abandon, connection_options

log = logging.getLogger("tracking.outgoing")

# One round's work: some megabytes of messages, acknowledged in well under a second.
ROUND: Final = 5_000
# Another process may have written: look this often even when nobody wakes us.
IDLE_S: Final = 1.0
# Between two rounds: nobody waits for these events by the millisecond, and rounds without a pause
# would take the interpreter from ingest and the viewers.
PACE_S: Final = 0.2
RETRY_S: Final = 1.0
SEND_TIMEOUT_S: Final = 30.0


class Outgoing:
    """Owns the thread. `wake` and `stop` may be called by any thread."""

    def __init__(
        self,
        settings: Settings,
        engine: sa.Engine,
        metrics: Metrics,
        died: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._died = died
        self._topic = settings.topic("tracking.events")
        self._interrupted = False  # said so, and not yet that it goes on
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="outgoing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was stored."""
        self._work.set()

    def stop(self) -> None:
        self._stopping.set()
        self._work.set()

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if the thread takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            while not self._stopping.is_set():
                self._attempt()
        except BaseException as error:
            log.exception("outgoing thread died")
            self._died(error)

    def _attempt(self) -> None:
        """Drain until something fails that may pass; then wait and begin again."""
        try:
            with self._engine.connect() as connection:
                if outbox.try_lock_drainer(connection):
                    self._drain_with_producer(connection)
                    return
        except KafkaError as error:
            self._interrupt(f"outgoing events wait for Kafka: {error!r}")
        except Exception as error:
            if not is_transient(error):
                raise
            self._interrupt("outgoing events wait for the database")
        self._stopping.wait(RETRY_S)

    def _interrupt(self, reason: str) -> None:
        """One line for an outage, not one for each attempt."""
        if not self._interrupted:
            log.warning(reason)
        self._interrupted = True

    def _drain_with_producer(self, lock: sa.Connection) -> None:
        producer = KafkaProducer(
            **connection_options(self._settings),
            # A round is flushed at its end: batching costs nobody latency.
            linger_ms=20,
            batch_size=262_144,
            bootstrap_timeout_ms=3_000,
        )
        try:
            while not self._stopping.is_set():
                lock.execute(sa.text("SELECT 1"))  # raises when the lock's session is gone
                lock.commit()
                sent = self._round(producer)
                if self._interrupted:
                    log.info("outgoing events flow again")
                    self._interrupted = False
                self._pause(sent)
        finally:
            # The lock lives in the session: end it, or the pool would keep it.
            lock.invalidate()
            abandon(producer)

    def _pause(self, sent: int) -> None:
        self._stopping.wait(PACE_S)
        if sent < ROUND:
            self._work.wait(IDLE_S)
            self._work.clear()

    def _round(self, producer: KafkaProducer) -> int:
        """Send what is due; how many events it was."""
        events = outbox.due_events(self._engine, ROUND)
        self._send(producer, [_lifecycle(event) for event in events])
        outbox.delete_events(self._engine, [event.id for event in events])
        waypoints = self._positions(producer)
        outbox.forget_ended(self._engine)
        self._measure()
        return max(len(events), waypoints)

    def _positions(self, producer: KafkaProducer) -> int:
        if not self._settings.tracking_updated:
            outbox.skip_positions(self._engine)
            return 0
        waypoints = outbox.unsent_waypoints(self._engine, ROUND)
        self._send(producer, [_updated(waypoint) for waypoint in waypoints])
        if waypoints:
            outbox.advance_watermarks(self._engine, {w.track_id: w.seq for w in waypoints})
        return len(waypoints)

    def _send(self, producer: KafkaProducer, events: Sequence[tuple[str, bytes, bytes]]) -> None:
        """All of them acknowledged, or KafkaError: then all of them are sent again."""
        futures = [producer.send(self._topic, key=key, value=value) for _, key, value in events]
        deadline = time.monotonic() + SEND_TIMEOUT_S
        for future in futures:
            future.get(timeout=max(deadline - time.monotonic(), 0.001))
        for type_, _, _ in events:
            self._metrics.published.labels(type_).inc()

    def _measure(self) -> None:
        oldest = outbox.oldest(self._engine)
        age = 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
        self._metrics.outbox_age.set(max(age, 0.0))


def _lifecycle(event: OutboxRow) -> tuple[str, bytes, bytes]:
    value = envelope(event.event_id, event.type, rfc3339(event.created_at), event.data)
    return event.type, _key(event.booking_id), value


def _updated(waypoint: UnsentWaypoint) -> tuple[str, bytes, bytes]:
    recorded_at = rfc3339(waypoint.recorded_at)
    data: dict[str, Any] = {
        "track_id": waypoint.track_id,
        "booking_id": waypoint.booking_id,
        "runner_id": waypoint.runner_id,
        "owner_id": waypoint.owner_id,
        "latitude": waypoint.latitude,
        "longitude": waypoint.longitude,
        "speed_kmh": waypoint.speed_kmh or 0.0,
        "heading_degrees": waypoint.heading_degrees or 0.0,
        "seq": waypoint.seq,
        "occurred_at": recorded_at,
    }
    event_id = uuid5(_namespace(waypoint.track_id), f"tracking.updated {waypoint.seq}")
    value = envelope(event_id, "tracking.updated", rfc3339(waypoint.received_at), data)
    return "tracking.updated", _key(waypoint.booking_id), value


@lru_cache(maxsize=4096)  # a round has many waypoints of few tracks
def _namespace(track_id: str) -> UUID:
    return UUID(track_id)


def _key(booking_id: object) -> bytes:
    """One partition for all events of a booking, which keeps them in order."""
    return str(booking_id).encode()
