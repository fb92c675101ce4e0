"""Tells live processes what this one has stored, through the relay's topic.

Sending is never in the way of storing: nothing waits for Kafka, and what it does not take is
dropped and counted. Whoever watches finds the gap, and reads what is missing from the table.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tracking.domain.changes import BookingChanges
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.wire.relay import SIGN_KEY, SignOfLife, bundles, by_partition, sign_of_life
from workers.relay.client import TOPIC, ensure_topic, library, options, partitions_of
from workers.tracing import Tracing

log = logging.getLogger("tracking.relay")

# A live process takes an ingest process for dead after five of them.
SIGN_S: Final = 1.0
RETRY_S: Final = 1.0
# A topic that got more partitions: whoever reads some of them expects each booking in its new one.
LOOK_S: Final = 5.0
LOOK_ANSWER_S: Final = 1.0
# What Kafka has not taken by then is old: viewers have it from the table.
OLDEST_MS: Final = 5_000
# Bundles that wait for Kafka: some seconds of a backlog.
WAITING: Final = 10_000
WAITING_KB: Final = 64 << 10
CLOSE_S: Final = 2.0

PRODUCER_OPTIONS: Final[dict[str, Any]] = {
    "acks": 1,
    "linger.ms": 0,
    "compression.type": "lz4",
    "message.timeout.ms": OLDEST_MS,
    "queue.buffering.max.messages": WAITING,
    "queue.buffering.max.kbytes": WAITING_KB,
}


Headers = Sequence[tuple[str, bytes]]


class RelaySender:
    """`publish` on the IOLoop; a thread of its own makes the topic and hears what became of it."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        process: str,
        died: Callable[[BaseException], None],
        tracing: Tracing | None = None,
    ) -> None:
        """`process` names this one among all."""
        self._metrics = metrics
        self._process = process
        self._delay_s: Callable[[], float] = lambda: inf
        self._died = died
        self._tracing = tracing
        self._topic = settings.topic(TOPIC)
        self._wanted = settings.relay_partitions
        self._partitions = 0  # 0: not known yet, or not any more
        self._options = options(settings)
        self._producer = Producer(self._options | PRODUCER_OPTIONS | {"logger": library})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="relay", daemon=True)
        self.dropped = 0  # changes, since the start
        self.failing_since: float | None = None  # time.monotonic()

    def start(self, delay_s: Callable[[], float]) -> None:
        """`delay_s`: by how much this process is behind; called on the relay's thread."""
        self._delay_s = delay_s
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """What is published now goes to Kafka."""
        return self._partitions > 0

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        """A record for each partition concerned. Neither waits nor raises. IOLoop thread."""
        partitions = self._partitions
        if not partitions:
            self._drop(len(bookings))
            return
        if self._tracing is None:
            self._send_all(bookings, partitions, [])
            return
        with self._tracing.relay(len(bookings)) as headers:
            self._send_all(bookings, partitions, headers)

    def _send_all(
        self, bookings: Sequence[BookingChanges], partitions: int, headers: Headers
    ) -> None:
        for partition, part in by_partition(bookings, partitions).items():
            for count, bundle in bundles(part):
                self._send(partition, bundle, count, headers=headers)

    def _send(
        self,
        partition: int,
        value: bytes,
        count: int,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> None:
        try:
            self._producer.produce(
                self._topic, value, key, partition, partial(self._delivered, count),
                headers=list(headers),
            )  # fmt: skip
        except BufferError:
            self._drop(count)
        except KafkaException:
            self._drop(count)
            self._partitions = 0  # the topic has fewer than before

    def _delivered(self, count: int, error: Any, _: Any) -> None:
        """On the relay thread."""
        if error is None:
            self.failing_since = None
            self._metrics.relay_sent.inc(count)
            return
        self._drop(count)
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.warning("Kafka does not take what is published: %s", error.str())
        self._partitions = 0  # the topic may be gone: it is looked for again

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._metrics.relay_dropped.inc(count)

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            log.exception("relay thread died")
            self._died(error)

    def _run(self) -> None:
        admin = AdminClient(self._options | {"log_level": 0})  # nobody would read its lines
        due = look_at = 0.0
        while not self._stopping.is_set():
            if not self._partitions:
                self._find_topic(admin)
                look_at = time.monotonic() + LOOK_S
            elif time.monotonic() >= look_at:
                self._look_again()
                look_at = time.monotonic() + LOOK_S
            self._producer.poll(0.1)
            if self._partitions and time.monotonic() >= due:
                due = time.monotonic() + SIGN_S
                self._tell(SignOfLife(self._process, self._delay_s()))
        self._tell(SignOfLife(self._process, 0.0, leaves=True))
        self._producer.flush(CLOSE_S)

    def _find_topic(self, admin: AdminClient) -> None:
        try:
            self._partitions = ensure_topic(admin, self._topic, self._wanted)
        except KafkaException as error:
            if self.failing_since is None:
                self.failing_since = time.monotonic()
                log.warning("the topic %s cannot be reached, trying on: %s", self._topic, error)
        if not self._partitions:
            self._stopping.wait(RETRY_S)

    def _look_again(self) -> None:
        with suppress(KafkaException):  # sending notices it, too
            self._partitions = partitions_of(self._producer, self._topic, LOOK_ANSWER_S)

    def _tell(self, sign: SignOfLife) -> None:
        """In each partition: a live process may read only some of them."""
        value = sign_of_life(sign)
        for partition in range(self._partitions):
            self._send(partition, value, 0, SIGN_KEY)

    def stop(self) -> None:
        """Any thread; `wait` for the end. What was published before is still sent."""
        self._stopping.set()

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if it takes longer."""
        if self._thread.ident is None:
            return True  # it was never started
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
