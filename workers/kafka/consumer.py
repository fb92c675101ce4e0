"""The Kafka thread: poll, decode, give away, commit. Nothing else ever touches the consumer.

An offset is committed after the transaction that stored its record and the acknowledgement of the
dead letters and of the forwarded records below it, never before.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Final

from kafka import KafkaConsumer, TopicPartition

from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.breaker import Breaker, IntakeStopped
from workers.kafka.alignment import Records
from workers.kafka.batches import Batch
from workers.kafka.commits import Commits, ends_of
from workers.kafka.connection import Connection
from workers.kafka.dead_letter_sender import DeadLetterSender
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.decoding import Decoder
from workers.kafka.flow_control import HELD_TIMEOUT_MS, POLL_RECORDS, FlowControl
from workers.kafka.forwarded import ROUTED_TOPIC
from workers.kafka.in_flight import InFlight
from workers.kafka.lag import Lag
from workers.kafka.patches import has_joined, resume_join
from workers.kafka.recovery import Recovery
from workers.relay.forwarding import Forwarder

log = logging.getLogger("tracking.consumer")

CLOSE_TIMEOUT_MS: Final = 5_000
# Whatever else makes kafka-python spin inside poll() (see patches.py): an empty poll() that took so
# much CPU is followed by a rest.
SPIN_S: Final = 0.01
REST_S: Final = 0.5
# A new consumer reads from the committed offsets: what is in flight is given time to be stored.
RENEWAL_S: Final = 5.0
# While so much is in flight that nothing is read: how long to wait for the first batch.
FULL_S: Final = 1.0
# A few live records go first: asking Kafka for the next ones takes the interpreter from the threads
# that store and send them, and those that come meanwhile are read at once.
FEW_RECORDS: Final = 200
FEW_S: Final = 0.02
# A healthy Kafka acknowledges in milliseconds.
DEAD_LETTERS_S: Final = 1.0
FORWARDED_S: Final = 1.0
# While only what is forwarded fills us: how long to wait for Kafka's answer.
ACKNOWLEDGED_S: Final = 0.1


class Consumer:
    """Owns the consumer thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        dead_letters: DeadLetterSender,
        breaker: Breaker,
        died: Callable[[BaseException], None],
    ) -> None:
        self._metrics = metrics
        self._breaker = breaker
        self._died = died
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._main, name="consumer", daemon=True)
        # Records for one poll(): no batch is larger than a transaction.
        self._poll_records = min(POLL_RECORDS, settings.batch_records)
        # Read by readiness checks on other threads; a stale value is a fine answer.
        # time.monotonic() of the last sign of life: poll() returned, or a try to connect ended.
        self.last_poll = time.monotonic()
        self.assigned = 0  # partitions that are ours
        self.connected = False
        self.joined = False  # the group has given us partitions, or has none for us
        self.stopped: dict[TopicPartition, str] = {}  # partitions that need an operator, and why
        routed_topic = settings.topic(ROUTED_TOPIC)
        self.lag = Lag(metrics, is_alone=settings.serves_clients, routed_topic=routed_topic)
        self._decoder = Decoder(settings, breaker)
        self._in_flight = InFlight(settings.batch_records, metrics, dead_letters)
        self._forwarder = Forwarder(settings, metrics, self._in_flight.kept)
        self._flow = FlowControl(self._poll_records, routed_topic)
        self._commits = Commits(self._in_flight.offsets)
        self._connection = Connection(settings, self._stopping, self.stopped)
        self._recovery = Recovery(self._stopping, self.stopped)

    def start(self, hand_over: Callable[[Batch], None]) -> None:
        """Begin to poll; `hand_over` is called on the consumer's thread."""
        self._in_flight.start(hand_over)
        self.last_poll = time.monotonic()
        self._thread.start()

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database, but for its poison. Any thread."""
        self._in_flight.done(batch)

    def acknowledged(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Kafka keeps these. Any thread."""
        self._in_flight.done(dead_letters)

    def stop(self) -> None:
        """Poll no more. Any thread; `wait` for the end."""
        self._stopping.set()

    def wait(self, timeout_s: float) -> bool:
        """Commit what is stored and close. Not on the IOLoop; False if it takes longer."""
        self._finished.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            log.exception("consumer thread died")
            self._died(error)

    def _run(self) -> None:
        """One consumer after the other, until told to stop."""
        while not self._stopping.is_set():
            self.connected = self.joined = False
            consumer = self._connection.connect(self._show_life)
            if consumer is None:
                return
            self.connected = True
            try:
                while not self._stopping.is_set() and self._poll_once(consumer):
                    pass
                self._finish(consumer)
            finally:
                consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)

    def _finish(self, consumer: KafkaConsumer) -> None:
        """Whatever is in flight may still be stored: commit it, then leave the group."""
        in_flight = self._in_flight
        self._flow.clear()
        self._take_back(FORWARDED_S)
        if self._stopping.is_set():
            while not self._finished.wait(HELD_TIMEOUT_MS / 1000):
                in_flight.collect()
        else:
            in_flight.collect_until(
                lambda: not in_flight.records or self._stopping.is_set(), RENEWAL_S
            )
        in_flight.collect_until(lambda: not in_flight.dead_letters, DEAD_LETTERS_S)
        self._forget_revoked()
        self._commits.commit_and_wait(consumer)

    def _poll_once(self, consumer: KafkaConsumer) -> bool:
        """One poll and what follows; False when this consumer cannot be used any more."""
        waits = self._is_full() and not self._in_flight.records
        self._take_back(ACKNOWLEDGED_S if waits else 0.0)
        self._in_flight.collect(FULL_S if self._is_full() else 0.0)
        if self._is_full():
            timeout_ms = self._flow.pause_all(consumer)
        else:
            held = self._in_flight.unkept() | self.stopped.keys()
            timeout_ms = self._flow.pause(consumer, held)
        usable = self._poll(consumer, timeout_ms)
        if 0 < self._in_flight.records <= FEW_RECORDS:
            self._in_flight.collect(FEW_S)
        self._commits.commit(consumer)
        if self.lag.measure(consumer, consumer.paused()) and self._breaker.reason is None:
            waiting = self._flow.waiting()
            self._in_flight.pass_control_records(
                {p: offset for p, offset in self.lag.positions.items() if p not in waiting}
            )
        return usable

    def _poll(self, consumer: KafkaConsumer, timeout_ms: int) -> bool:
        begin = time.thread_time()
        try:
            polled = consumer.poll(timeout_ms=timeout_ms, max_records=self._poll_records)
        except Exception as error:  # decompression alone raises whatever its library likes
            self._returned(consumer)
            skipped = self._recovery.skip(consumer, error)
            if skipped is not None:
                # What waits lies before it, and is committed before it.
                self._process(consumer, self._flow.released(skipped.partition))
                self._in_flight.give(skipped.batch, {skipped.partition: skipped.end})
            return skipped is not None
        self._returned(consumer)
        if not polled and time.thread_time() - begin > SPIN_S:
            self._stopping.wait(REST_S)
        polled, leaving = self._forwarder.exchange(polled, consumer)
        self._in_flight.forward(leaving)
        resume_join(consumer)
        if polled or not self._is_full():
            self._process(consumer, self._flow.going_on(polled, consumer))
        return True

    def _process(self, consumer: KafkaConsumer, parts: list[Records]) -> None:
        """Events to the database, the rest to the dead-letter topic."""
        self._in_flight.waiting_bytes = self._flow.waiting_bytes
        for number, part in enumerate(parts):
            try:
                batch, dead_letters = self._decoder.decode(chain.from_iterable(part.values()))
            except IntakeStopped:
                return self._unread(consumer, parts[number:])
            self.lag.polled(consumer, part)
            self._in_flight.give_up(dead_letters)
            behind = self._flow.waiting().keys() | {p for rest in parts[number + 1 :] for p in rest}
            self._in_flight.give(batch, ends_of(consumer, part, behind))
        return None

    def _take_back(self, wait_s: float = 0.0) -> None:
        """What could not be forwarded is stored here."""
        for bundle in self._forwarder.returned(wait_s):
            with suppress(IntakeStopped):  # its offsets stay uncommitted: the next start reads it
                batch, dead_letters = self._decoder.decode(bundle.records)
                self._in_flight.take_back(bundle, batch, dead_letters)

    def _unread(self, consumer: KafkaConsumer, parts: list[Records]) -> None:
        """They are not read, says the lag, and neither is what waits."""
        offsets = self._flow.waiting()
        self._flow.clear()
        for part in reversed(parts):
            offsets |= {partition: records[0].offset for partition, records in part.items()}
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)

    def _is_full(self) -> bool:
        return self._in_flight.is_full() or self._breaker.reason is not None

    def _show_life(self) -> None:
        self.last_poll = time.monotonic()

    def _returned(self, consumer: KafkaConsumer) -> None:
        self._show_life()
        self._forget_revoked()
        self.joined = has_joined(consumer)
        self.assigned = len(consumer.assignment())
        self._metrics.last_poll.set_to_current_time()

    def _forget_revoked(self) -> None:
        partitions = self._connection.revoked()
        self._in_flight.revoked(partitions)
        self._commits.revoked(partitions)
        self._flow.revoked(partitions)
        self.lag.revoked(partitions)
