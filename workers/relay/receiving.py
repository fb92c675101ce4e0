"""What other processes have stored, from the relay's topic to the rooms of this one.

No consumer group, and no offsets: a process that starts reads from the end, and its rooms from the
table.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from tracking.domain.changes import BookingChanges
from tracking.live.fleet import Fleet
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.wire.relay import Unreadable, changes_in, sign_of
from workers.relay.client import ANSWER_S, TOPIC, library, options, partitions_of
from workers.relay.ingest_processes import IngestProcesses
from workers.relay.sending import SIGN_KEY

log = logging.getLogger("tracking.relay")

POLL_S: Final = 0.2
# Records that are looked at before the rooms are told.
RECORDS: Final = 500
RETRY_S: Final = 0.5
# A topic that was deleted, made again or got more partitions is noticed within so long.
LOOK_S: Final = 5.0
# Reading may go on though one question was not answered.
MISSES: Final = 2

CONSUMER_OPTIONS: Final[dict[str, Any]] = {
    "group.id": "not used",
    "enable.auto.commit": False,
    "auto.offset.reset": "latest",
    "fetch.error.backoff.ms": 100,
}

Publish = Callable[[Sequence[BookingChanges]], Coroutine[Any, Any, None]]


class RelayReceiver:
    """Owns the thread that reads; what it finds is published on the IOLoop."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        rooms: Rooms,
        fleet: Fleet,
        publish: Publish,
        died: Callable[[BaseException], None],
    ) -> None:
        self._metrics = metrics
        self._rooms = rooms
        self._fleet = fleet
        self._publish = publish
        self._died = died
        self._topic = settings.topic(TOPIC)
        self._consumer = Consumer(options(settings) | CONSUMER_OPTIONS | {"logger": library})
        self._assigned = 0  # partitions
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="relay", daemon=True)
        self._loop = asyncio.get_event_loop()
        self.processes = IngestProcesses()
        self.connected = threading.Event()  # where to read from was settled, once
        self.is_connected = False  # a broker answers
        self._unanswered = 0  # questions, one after the other
        self.last_poll = time.monotonic()  # the thread lives

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Any thread; `wait` for the end."""
        self._stopping.set()

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if it takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            log.exception("relay thread died")
            self._died(error)
        finally:
            self._consumer.close()

    def _run(self) -> None:
        due = 0.0
        while not self._stopping.is_set():
            self.last_poll = time.monotonic()
            if self.last_poll >= due:
                self._assign()
                due = time.monotonic() + (LOOK_S if self._assigned else RETRY_S)
            first = self._consumer.poll(POLL_S)
            if first is not None:
                self._received([first, *self._consumer.consume(RECORDS, 0)])

    def _assign(self) -> None:
        """All partitions there are, from their end: it is asked for before anybody is let in."""
        try:
            count = partitions_of(self._consumer, self._topic)
            if count != self._assigned:
                self._consumer.assign([self._end_of(partition) for partition in range(count)])
                log.info("reading %d partitions of %s", count, self._topic)
                self._assigned = count
        except KafkaException as error:
            self._unanswered += 1
            if self._unanswered == MISSES:
                log.warning("no broker answers for %s, trying on: %s", self._topic, error)
            self.is_connected = self.is_connected and self._unanswered < MISSES
        else:
            self._unanswered = 0
            self.is_connected = count > 0
            if count:
                self.connected.set()

    def _end_of(self, partition: int) -> TopicPartition:
        there = TopicPartition(self._topic, partition)
        _, end = self._consumer.get_watermark_offsets(there, ANSWER_S)
        return TopicPartition(self._topic, partition, end)

    def _received(self, records: Sequence[Message]) -> None:
        """Publish what somebody watches; the next ones wait until that is done."""
        changes: list[BookingChanges] = []
        for record in records:
            error = record.error()
            if error is not None:
                log.warning("the relay's topic cannot be read at the moment: %s", error.str())
                continue
            try:
                self._read(record, changes)
            except Unreadable as problem:
                self._metrics.relay_unreadable.inc()
                log.warning("a record of %s is none of ours: %s", self._topic, problem)
        if changes and not self._stopping.is_set():
            self._metrics.relay_changes.inc(len(changes))
            published = asyncio.run_coroutine_threadsafe(self._publish(changes), self._loop)
            with suppress(CancelledError):  # the loop ends
                published.result()

    def _read(self, record: Message, changes: list[BookingChanges]) -> None:
        value = record.value() or b""
        if record.key() == SIGN_KEY:
            self.processes.tell(sign_of(value))
            return
        self._metrics.relay_bundles.inc()
        watched = None if self._fleet.is_watched else self._rooms.watched
        changes.extend(changes_in(value, watched))
