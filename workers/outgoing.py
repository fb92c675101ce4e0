"""Outgoing events to Kafka: at least once, with stable ids, in order for each booking.

A thread of its own, since it waits for the database and for Kafka alternately. One process at a
time drains (advisory lock); the others try every second. Nothing else waits for this thread.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final
from uuid import uuid5

import sqlalchemy as sa
from kafka import KafkaProducer
from kafka.errors import KafkaError

from tracking.domain.times import rfc3339
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.engine import is_transient
from tracking.store.outbox import events as outbox
from tracking.store.outbox import watermarks
from tracking.store.outbox.events import OutboxRow
from tracking.store.outbox.watermarks import UnsentTrack, UnsentWaypoint
from tracking.wire.messages import envelope
from workers.erasures import ErasureTopic, told
from workers.kafka.clients import connection_options
from workers.kafka.patches import abandon, without_exit_hook
from workers.thinning import fair_shares, pass_gone, spans, thinned

log = logging.getLogger("tracking.outgoing")

# Most events of a round: some megabytes, acknowledged in well under a second. The tracks share
# them, so that a phone's buffer of a day delays no other track.
ROUND_EVENTS: Final = 5_000
# Another process may have written: look this often even when nobody wakes us.
IDLE_S: Final = 1.0
# Between two rounds: nobody waits for these events by the millisecond, and each round costs some
# 4 ms of the interpreter, whatever it sends.
PACE_S: Final = 0.5
# The same after a round that could not send all that was due.
FULL_PACE_S: Final = 0.2
RETRY_S: Final = 1.0
SEND_TIMEOUT_S: Final = 30.0


class Round(IntEnum):
    """How much a round sent."""

    NOTHING = 0
    SOME = 1  # more may be due now: positions that waited for an event, or the reverse
    FULL = 2  # more is due


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
        self._erasures = ErasureTopic(settings)
        self._interval = timedelta(seconds=settings.tracking_updated_interval)
        self._oldest: datetime | None = None  # since when the oldest event waits
        metrics.outbox_age.set_function(self.age)
        self._interrupted = False  # logged, and not yet that it flows again
        self._producer: KafkaProducer | None = None
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="outgoing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something was stored. Any thread."""
        self._work.set()

    def stop(self) -> None:
        """End after the current round. Any thread; `wait` for it."""
        self._stopping.set()
        self._work.set()

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if the thread takes longer."""
        self._thread.join(timeout_s / 2)
        producer = self._producer
        if self._thread.is_alive() and producer is not None:
            abandon(producer)  # what it waits for fails now, and is sent at the next start
            self._thread.join(timeout_s / 2)
        return not self._thread.is_alive()

    def age(self) -> float:
        """Seconds that the oldest event has waited, as of the last look. Any thread."""
        oldest = self._oldest
        return 0.0 if oldest is None else max((datetime.now(UTC) - oldest).total_seconds(), 0.0)

    @property
    def remark(self) -> str:
        """What is wrong though everything goes out; empty if nothing is. Any thread."""
        return self._erasures.remark

    def _main(self) -> None:
        try:
            while not self._stopping.is_set():
                self._attempt()
        except BaseException as error:
            log.exception("outgoing thread died")
            self._died(error)

    def _attempt(self) -> None:
        """Drain until a transient error; then wait a second."""
        try:
            self._oldest = outbox.oldest(self._engine)
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
        """Log one line for an outage, not one for each attempt."""
        if not self._interrupted:
            log.warning(reason)
        self._interrupted = True

    def _drain_with_producer(self, lock: sa.Connection) -> None:
        producer = self._producer = without_exit_hook(
            KafkaProducer(
                **connection_options(self._settings),
                # A round is flushed at its end: batching costs nobody latency.
                linger_ms=20,
                batch_size=262_144,
                bootstrap_timeout_ms=3_000,
                # A topic that is not there: said soon, and tried again for ever.
                max_block_ms=5_000,
            )
        )
        try:
            while not self._stopping.is_set():
                self._erasures.look()
                lock.execute(sa.text("SELECT 1"))  # raises when the lock's session is gone
                lock.commit()
                found = self._round(producer)
                if self._interrupted:
                    log.info("outgoing events flow again")
                    self._interrupted = False
                self._pause(found)
        finally:
            # The lock lives in the session: end it, or the pool would keep it.
            lock.invalidate()
            abandon(producer)
            self._producer = None

    def _pause(self, found: Round) -> None:
        self._stopping.wait(FULL_PACE_S if found is Round.FULL else PACE_S)
        if found is Round.NOTHING:
            self._work.wait(IDLE_S)
            self._work.clear()

    def _round(self, producer: KafkaProducer) -> Round:
        """Send what is due: events whose positions are out, then positions up to the next event."""
        self._oldest = outbox.oldest(self._engine)
        events = outbox.claim_due(self._engine, ROUND_EVENTS)
        self._erasures.keep(producer, events, SEND_TIMEOUT_S)
        self._send(producer, [_lifecycle(event) for event in told(events)])
        outbox.delete_events(self._engine, [event.id for event in events])
        found = Round.FULL if len(events) == ROUND_EVENTS else Round(bool(events))
        if self._settings.tracking_updated:
            found = max(found, self._positions(producer))
        else:
            watermarks.skip_positions(self._engine)
        watermarks.unmark_sent(self._engine)
        return found

    def _positions(self, producer: KafkaProducer) -> Round:
        tracks = watermarks.unsent_tracks(self._engine, ROUND_EVENTS)
        wanted = [track.last_seq - track.published_seq for track in tracks]
        shares = fair_shares(wanted, ROUND_EVENTS)
        found = watermarks.waypoints_in(self._engine, spans(tracks, shares))
        by_id = {track.track_id: track for track in tracks}
        going, published = thinned(found, by_id, self._interval)
        pass_gone(tracks, shares, published)
        self._send(producer, [_updated(by_id[w.track_id], w) for w in going])
        watermarks.advance(self._engine, published)
        return Round.FULL if shares != wanted else Round(bool(going))

    def _send(self, producer: KafkaProducer, events: Sequence[tuple[str, bytes, bytes]]) -> None:
        """All of them acknowledged, or KafkaError: then all of them are sent again."""
        futures = [producer.send(self._topic, key=key, value=value) for _, key, value in events]
        deadline = time.monotonic() + SEND_TIMEOUT_S
        for future in futures:
            future.get(timeout=max(deadline - time.monotonic(), 0.001))
        for type_, number in Counter(type_ for type_, _, _ in events).items():
            self._metrics.published.labels(type_).inc(number)


def _lifecycle(event: OutboxRow) -> tuple[str, bytes, bytes]:
    value = envelope(event.event_id, event.type, rfc3339(event.created_at), event.data)
    return event.type, _key(event.booking_id), value


def _updated(track: UnsentTrack, waypoint: UnsentWaypoint) -> tuple[str, bytes, bytes]:
    data: dict[str, Any] = {
        "track_id": track.track_id,
        "booking_id": track.booking_id,
        "runner_id": waypoint.runner_id,
        "owner_id": track.owner_id,
        "latitude": waypoint.latitude,
        "longitude": waypoint.longitude,
        "speed_kmh": waypoint.speed_kmh or 0.0,
        "heading_degrees": waypoint.heading_degrees or 0.0,
        "seq": waypoint.seq,
        "occurred_at": rfc3339(waypoint.recorded_at),
    }
    # After a restore from a backup the same seq may be another waypoint, and so another event.
    event_id = uuid5(track.id, f"tracking.updated {track.epoch} {waypoint.seq}")
    value = envelope(event_id, "tracking.updated", rfc3339(waypoint.received_at), data)
    return "tracking.updated", _key(track.booking_id), value


def _key(booking_id: object) -> bytes:
    """One partition for all events of a booking, which keeps them in order."""
    return str(booking_id).encode()
