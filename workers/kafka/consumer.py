"""The Kafka thread: poll, have decoded, hand over, commit. Nothing else ever touches the consumer.

An offset is committed after the transaction that stored its record and the acknowledgement of the
dead letters below it, never before.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from kafka import KafkaConsumer, TopicPartition

from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.kafka.batches import Batch
from workers.kafka.commits import Commits
from workers.kafka.connection import Connection
from workers.kafka.dead_letters import DeadLetters
from workers.kafka.decoding import decoded
from workers.kafka.flow_control import HELD_TIMEOUT_MS, FlowControl
from workers.kafka.lag import Lag
from workers.kafka.patches import resume_join
from workers.kafka.recovery import Recovery

log = logging.getLogger("tracking.consumer")

CLOSE_TIMEOUT_MS: Final = 5_000
# Whatever else makes kafka-python spin inside poll() (see patches.py): an empty poll() that took so
# much CPU is followed by a rest.
SPIN_S: Final = 0.01
REST_S: Final = 0.5
# A new consumer reads from the committed offsets: what is in flight is given time to be stored.
RENEWAL_S: Final = 5.0
# A healthy Kafka acknowledges in milliseconds.
DEAD_LETTERS_S: Final = 1.0


class Consumer:
    """Owns the consumer thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        dead_letters: DeadLetters,
        died: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._dead_letters = dead_letters
        self._hand_over: Callable[[Batch], None] = _nowhere
        self._died = died
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._stored: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="consumer", daemon=True)
        # Read by readiness checks on other threads; a stale value is a fine answer.
        # time.monotonic() of the last sign of life: poll() returned, or a try to connect ended.
        self.last_poll = time.monotonic()
        self.assigned = 0  # partitions that are ours
        self.connected = False
        self.stopped: dict[TopicPartition, str] = {}  # partitions that need an operator, and why
        self.lag = Lag(metrics)
        self._flow = FlowControl(settings.batch_records)
        self._commits = Commits()
        self._connection = Connection(settings, self._stopping, self.stopped)
        self._recovery = Recovery(self._stopping, self.stopped)

    def start(self, hand_over: Callable[[Batch], None]) -> None:
        """Begin to poll; `hand_over` is called on the consumer's thread."""
        self._hand_over = hand_over
        self.last_poll = time.monotonic()
        self._thread.start()

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database. Any thread."""
        self._stored.put(batch)

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
            self.connected = False
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
        if self._stopping.is_set():
            while not self._finished.wait(HELD_TIMEOUT_MS / 1000):
                self._collect_stored(block=False)
        else:
            self._wait_until_stored(RENEWAL_S)
        self._wait_until_acknowledged(DEAD_LETTERS_S)
        self._forget_revoked()
        self._commits.commit_and_wait(consumer)

    def _wait_until_stored(self, seconds: float) -> None:
        """Less is read twice."""
        end = time.monotonic() + seconds
        while self._flow.records and time.monotonic() < end and not self._stopping.is_set():
            self._collect_stored(block=True)

    def _wait_until_acknowledged(self, seconds: float) -> None:
        """Fewer dead letters are written twice."""
        end = time.monotonic() + seconds
        self._collect_stored(block=False)
        while self._commits.offsets.dead_letters and time.monotonic() < end:
            time.sleep(0.02)
            self._collect_stored(block=False)

    def _poll_once(self, consumer: KafkaConsumer) -> bool:
        """One poll and what follows; False when this consumer cannot be used any more."""
        self._collect_stored(block=self._is_full())
        if self._is_full():
            timeout_ms = self._flow.pause_all(consumer)
        else:
            timeout_ms = self._flow.pause(consumer, self._held())
        usable = self._poll(consumer, timeout_ms)
        self._commits.commit(consumer)
        self.lag.measure(consumer)
        return usable

    def _poll(self, consumer: KafkaConsumer, timeout_ms: int) -> bool:
        begin = time.thread_time()
        try:
            polled = consumer.poll(timeout_ms=timeout_ms, max_records=self._flow.room())
        except Exception as error:  # decompression alone raises whatever its library likes
            self._returned(consumer)
            skipped = self._recovery.skip(consumer, error)
            if skipped is not None:
                self._give(skipped)
            return skipped is not None
        self._returned(consumer)
        if not polled and time.thread_time() - begin > SPIN_S:
            self._stopping.wait(REST_S)
        resume_join(consumer)
        if polled:
            self.lag.polled(polled)
            self._flow.polled(polled)
            self._give(decoded(polled, self._settings))
        return True

    def _is_full(self) -> bool:
        return self._flow.is_full(self._commits.offsets.dead_letters)

    def _held(self) -> set[TopicPartition]:
        """A partition waits while its dead letters cannot be kept, or it needs an operator."""
        unkept = self._commits.offsets.waiting() if self._dead_letters.failing_since else set()
        return unkept | self.stopped.keys()

    def _show_life(self) -> None:
        self.last_poll = time.monotonic()

    def _returned(self, consumer: KafkaConsumer) -> None:
        self._show_life()
        self._forget_revoked()
        self.assigned = len(consumer.assignment())
        self._metrics.last_poll.set_to_current_time()

    def _forget_revoked(self) -> None:
        partitions = self._connection.revoked()
        self._commits.revoked(partitions)
        self._flow.forget(partitions)
        self.lag.forget(partitions)

    def _give(self, batch: Batch) -> None:
        batch.generations = {
            partition: self._commits.offsets.generation(TopicPartition(*partition))
            for partition in batch.offsets
        }
        self._flow.handed_over(batch)
        self._hand_over(batch)

    def _collect_stored(self, *, block: bool) -> None:
        """Note what ingest has stored; when blocking, wait up to a second for the first."""
        for batch in self._stored_batches(block):
            self._flow.stored(batch)
            self._commits.offsets.stored(batch)
            if batch.dead:
                self._dead_letters.put(batch.dead)
        self._commits.offsets.acknowledged(self._dead_letters.acknowledged())
        self._metrics.dead_letters_waiting.set(self._commits.offsets.dead_letters)

    def _stored_batches(self, block: bool) -> Iterable[Batch]:
        try:
            if block:
                yield self._stored.get(timeout=1.0)
            while True:
                yield self._stored.get_nowait()
        except queue.Empty:
            return


def _nowhere(_: Batch) -> None:
    raise AssertionError("start() says where batches go")
