"""Outgoing events to Kafka: at least once, with stable ids, in order for each booking.

A thread of its own, since it waits for the database and for Kafka in turn. One process at a time
drains (advisory lock); the others wait for their turn. Nothing else waits for this thread.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final
from uuid import uuid5

import sqlalchemy as sa
from kafka import KafkaProducer
from kafka.errors import KafkaError

from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.engine import is_transient
from tracking.store.outbox import events as outbox
from tracking.store.outbox import watermarks
from tracking.store.outbox.events import OutboxRow
from tracking.store.outbox.watermarks import Published, Span, UnsentTrack, UnsentWaypoint
from tracking.wire.messages import envelope, rfc3339
from workers.kafka.clients import connection_options
from workers.kafka.patches import abandon, without_exit_hook

log = logging.getLogger("tracking.outgoing")

# One round's work: some megabytes of messages, acknowledged in well under a second. Tracks share
# it, so that a phone's day buffer delays nobody else.
ROUND_EVENTS: Final = 5_000
# Another process may have written: look this often even when nobody wakes us.
IDLE_S: Final = 1.0
# Between two rounds: nobody waits for these events by the millisecond, and each round costs some
# 4 ms of the interpreter, whatever it sends.
PACE_S: Final = 0.5
# The same behind a round that had no place for all.
FULL_PACE_S: Final = 0.2
RETRY_S: Final = 1.0
SEND_TIMEOUT_S: Final = 30.0


class Round(IntEnum):
    """What a round found."""

    NOTHING = 0
    SOME = 1  # and more may be due behind it: positions that waited for an event, or the reverse
    FULL = 2  # and more is due


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
        self._interval = timedelta(seconds=settings.tracking_updated_interval)
        self._oldest: datetime | None = None  # since when the oldest event waits
        metrics.outbox_age.set_function(self.age)
        self._interrupted = False  # said so, and not yet that it goes on
        self._producer: KafkaProducer | None = None
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
        """One line for an outage, not one for each attempt."""
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
        """Send what is due."""
        self._oldest = outbox.oldest(self._engine)
        events = outbox.take_due(self._engine, ROUND_EVENTS)
        self._send(producer, [_lifecycle(event) for event in events])
        outbox.delete_events(self._engine, [event.id for event in events])
        found = Round.FULL if len(events) == ROUND_EVENTS else Round(bool(events))
        if self._settings.tracking_updated:
            found = max(found, self._positions(producer))
        else:
            watermarks.skip_positions(self._engine)
        watermarks.settle(self._engine)
        return found

    def _positions(self, producer: KafkaProducer) -> Round:
        tracks = watermarks.unsent_tracks(self._engine, ROUND_EVENTS)
        wanted = [track.last_seq - track.published_seq for track in tracks]
        shares = fair_shares(wanted, ROUND_EVENTS)
        found = watermarks.waypoints_in(self._engine, spans(tracks, shares))
        by_id = {track.track_id: track for track in tracks}
        going, published = thinned(found, by_id, self._interval)
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


def fair_shares(wanted: Sequence[int], limit: int) -> list[int]:
    """What each gets of a round: nobody less for another's having more to send."""
    shares = [0] * len(wanted)
    for position, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(wanted[index], limit // (len(wanted) - position))
        limit -= shares[index]
    return shares


def spans(tracks: Sequence[UnsentTrack], shares: Sequence[int]) -> list[Span]:
    """Where the waypoints of a round lie."""
    found: list[Span] = []
    for track, share in zip(tracks, shares, strict=True):
        first, newest = track.published_seq + 1, track.newest_seq
        if newest is not None and newest < first:
            found.append((track.id, newest, newest, track.started_at))
        if share:
            found.append((track.id, first, first + share - 1, track.started_at))
    return found


def thinned(
    waypoints: Sequence[UnsentWaypoint], tracks: Mapping[str, UnsentTrack], interval: timedelta
) -> tuple[list[UnsentWaypoint], dict[str, Published]]:
    """What goes out of these, and how far their tracks are out then.

    Decided by what is stored alone, so that a process that takes over decides the same: a position
    goes out if it is recorded an interval after all that went out, or as the last of its trip.
    """
    going, published = [], dict[str, Published]()
    for waypoint in waypoints:
        track = tracks[waypoint.track_id]
        far = published.get(waypoint.track_id)
        if far is None:
            far = Published(track.published_seq, track.published_at, waypoint.received_at)
            published[waypoint.track_id] = far
        far.seq, far.received_at = max(far.seq, waypoint.seq), waypoint.received_at
        if not interval or _is_due(waypoint, track, far.at, interval):
            going.append(waypoint)
            far.at = max(far.at or waypoint.recorded_at, waypoint.recorded_at)
    return going, published


def _is_due(
    waypoint: UnsentWaypoint, track: UnsentTrack, newest: datetime | None, interval: timedelta
) -> bool:
    if newest is None or waypoint.recorded_at - newest >= interval:
        return True
    return waypoint.seq == track.newest_seq and waypoint.recorded_at > newest


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
