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

from confluent_kafka import Consumer, KafkaException, Message

from tracking.domain.changes import BookingChanges
from tracking.live.fleet import Fleet
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.wire.relay import SIGN_KEY, Unreadable, changes_in, sign_of
from workers.relay.assignment import LINGER_S, Assignment, Reading
from workers.relay.client import TOPIC, library, options
from workers.relay.ingest_processes import IngestProcesses
from workers.relay.positions import Positions
from workers.tracing import NAME, Tracing

log = logging.getLogger("tracking.relay")

# What is wanted is looked at so often; and so often while Kafka is asked, which takes 3 ms.
POLL_S: Final = 0.05
ASKING_S: Final = 0.005
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
# A partition that is read anew waits for the answer of those that are: where they come and go, for
# less than the 500 ms of a quiet topic.
ROOMS_OPTIONS: Final[dict[str, Any]] = {"fetch.wait.max.ms": 100}

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
        linger_s: float = LINGER_S,
        tracing: Tracing | None = None,
    ) -> None:
        self._metrics = metrics
        self._rooms = rooms
        self._fleet = fleet
        self._publish = publish
        self._died = died
        self._tracing = tracing
        self._topic = settings.topic(TOPIC)
        reads_all = settings.live_reads == "all"
        own = CONSUMER_OPTIONS | ({} if reads_all else ROOMS_OPTIONS)
        self._consumer = Consumer(options(settings) | own | {"logger": library})
        self._positions = Positions(settings, self._consumer)
        self.assignment = Assignment(rooms, fleet, reads_all, linger_s)
        self._reading = Reading(0, 0, frozenset())  # as the loop knows it
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="relay", daemon=True)
        self._loop = asyncio.get_event_loop()
        self.processes = IngestProcesses()
        self.connected = threading.Event()  # where to read from was settled, once
        self._is_answered = False
        self._unanswered = 0  # questions, one after the other
        self.last_poll = time.monotonic()  # the thread lives

    def start(self) -> None:
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """A broker answers, and something is read. Any thread."""
        return self._is_answered and self.partitions > 0

    @property
    def partitions(self) -> int:
        """That are read now. Any thread."""
        return len(self._positions.read)

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
                self._look()
                due = time.monotonic() + (LOOK_S if self._positions.count else RETRY_S)
            self._follow()
            first = self._consumer.poll(ASKING_S if self._positions.is_asking else POLL_S)
            if first is not None:
                self._received([first, *self._consumer.consume(RECORDS, 0)])

    def _look(self) -> None:
        """How many partitions there are; of another number all are read anew."""
        try:
            count = self._positions.look()
        except KafkaException as error:
            self._unanswered += 1
            if self._unanswered == MISSES:
                log.warning("no broker answers for %s, trying on: %s", self._topic, error)
            self._is_answered = self._is_answered and self._unanswered < MISSES
            return
        self._unanswered = 0
        self._is_answered = count > 0
        if count != self._positions.count:
            log.info("%s has %d partitions", self._topic, count)
            self._positions.begin(count)

    def _follow(self) -> None:
        """Read what is wanted, and say so."""
        wanted = self.assignment.wanted
        self._positions.follow(wanted.partitions)
        reading = Reading(wanted.number, self._positions.count, self._positions.read)
        if reading == self._reading:
            return
        self._reading = reading
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.assignment.told, reading)
        if reading.partitions and reading.partitions == wanted.partitions:
            self.connected.set()

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
            publishing = self._publish(changes)
            if self._tracing is not None:
                parents = [p for p in map(_traceparent, records) if p]
                publishing = self._tracing.publish(publishing, changes, parents)
            published = asyncio.run_coroutine_threadsafe(publishing, self._loop)
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


def _traceparent(record: Message) -> str:
    """Of the batch whose changes the record brings."""
    value = dict(record.headers() or ()).get(NAME) or b""
    return value if isinstance(value, str) else value.decode("ascii", "replace")
