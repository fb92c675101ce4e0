"""What was read and is not committed: where it is given to, and what comes back.

Records go one of three ways, and all come back once: events to ingest, which stores them; records
that are none, and events that the database can never store, to the dead-letter topic; events of
bookings that another process stores, to that process.
"""

import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from kafka import TopicPartition

from tracking.metrics import Metrics
from workers.kafka.batches import Batch
from workers.kafka.dead_letter_sender import DeadLetterSender
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.forwarded import Bundle
from workers.kafka.offsets import Offsets

# Two batches of ordinary records are 4 MiB; 32 MiB bound those of a producer gone wild.
MAX_BYTES_IN_FLIGHT: Final = 32 << 20
# Nothing announces that a condition holds, only that something is done.
COLLECT_S: Final = 0.02


class InFlight:
    """One bound holds for batches and dead letters. Consumer thread, but for `done`."""

    def __init__(
        self, batch_records: int, metrics: Metrics, dead_letters: DeadLetterSender
    ) -> None:
        self._batch_records = batch_records
        self._metrics = metrics
        self._sender = dead_letters
        self._hand_over: Callable[[Batch], None] = _nowhere
        self._done: queue.SimpleQueue[Batch | Sequence[DeadLetter]] = queue.SimpleQueue()
        # Partition -> the offset that was given last, to be committed.
        self._given: dict[TopicPartition, int] = {}
        self._batch_bytes = 0
        self._dead_letter_bytes = 0
        self.waiting_bytes = 0  # of records that wait for other partitions
        self.records = 0  # read, and not stored
        self.dead_letters = 0  # not acknowledged
        self._forwarded_bytes = 0
        self.offsets = Offsets()

    def start(self, hand_over: Callable[[Batch], None]) -> None:
        """Where batches go."""
        self._hand_over = hand_over

    def done(self, what: Batch | Sequence[DeadLetter]) -> None:
        """A batch is in the database, or dead letters are in their topic. Any thread."""
        self._done.put(what)

    @property
    def bytes(self) -> int:
        """At most one poll() above MAX_BYTES_IN_FLIGHT."""
        given = self._batch_bytes + self._dead_letter_bytes + self._forwarded_bytes
        return given + self.waiting_bytes

    def is_full(self) -> bool:
        """Nothing more may be read."""
        return (
            self.records + self.dead_letters >= 2 * self._batch_records
            or self.bytes >= MAX_BYTES_IN_FLIGHT
        )

    def unkept(self) -> set[TopicPartition]:
        """Partitions that wait, while dead letters cannot be kept or are half of all, for theirs.

        So the other partitions go on.
        """
        many = (
            self.dead_letters >= self._batch_records
            or self._dead_letter_bytes >= MAX_BYTES_IN_FLIGHT // 2
        )
        return self.offsets.waiting() if many or self._sender.failing_since is not None else set()

    def give(self, batch: Batch, offsets: Mapping[TopicPartition, int]) -> None:
        """To ingest; the offsets are committed once the batch is stored."""
        self._given |= offsets
        batch.offsets = {(each.topic, each.partition): end for each, end in offsets.items()}
        batch.generations = {
            (each.topic, each.partition): self.offsets.generation(each) for each in offsets
        }
        self.records += batch.size
        self._batch_bytes += batch.bytes
        self._hand_over(batch)

    def give_up(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Records that are no events, to the dead-letter topic."""
        self.offsets.unreadable(dead_letters)
        self._send(dead_letters)

    def forward(self, bundles: Sequence[Bundle]) -> None:
        """They are on their way to another process."""
        for each in bundles:
            self.offsets.hold(each)
            self._forwarded_bytes += each.bytes

    def kept(self, bundle: Bundle) -> None:
        """Kafka has it for the other process."""
        self._arrived(bundle)
        self.offsets.release(bundle)

    def take_back(self, bundle: Bundle, batch: Batch, dead_letters: Sequence[DeadLetter]) -> None:
        """Kafka has not taken it: these are its events and the rest."""
        self._arrived(bundle)
        batch.held.append(bundle)
        self.give_up(dead_letters)
        self.give(batch, {})
        # Of its poison: which is waited for only in the generation in which it was read.
        batch.generations |= {(p.topic, p.partition): n for p, n in bundle.generations.items()}

    def _arrived(self, bundle: Bundle) -> None:
        self._forwarded_bytes -= bundle.bytes

    def pass_control_records(self, positions: Mapping[TopicPartition, int]) -> None:
        """What ends a transaction, or was aborted, has an offset, and poll() never gives it."""
        passed = {each: end for each, end in positions.items() if end > self._given.get(each, 0)}
        if passed:
            self.give(Batch(), passed)

    def revoked(self, partitions: set[TopicPartition]) -> None:
        """What was read of these before is not committed any more, now or once it is stored."""
        self.offsets.revoked(partitions)
        for partition in partitions:
            self._given.pop(partition, None)

    def collect(self, wait_s: float = 0.0) -> None:
        """Note what is done; wait for the first of it so long at most."""
        for what in self._all_done(wait_s):
            if isinstance(what, Batch):
                self.records -= what.size
                self._batch_bytes -= what.bytes
                self.offsets.stored(what)
                self._send(what.poison)
            else:
                self.dead_letters -= len(what)
                self._dead_letter_bytes -= sum(each.size for each in what)
                self.offsets.acknowledged(what)
        self._metrics.dead_letters_waiting.set(self.dead_letters)

    def collect_until(self, is_done: Callable[[], bool], seconds: float) -> None:
        """Fewer records are read twice, fewer dead letters written twice."""
        end = time.monotonic() + seconds
        self.collect()
        while not is_done() and time.monotonic() < end:
            self.collect(COLLECT_S)

    def _send(self, dead_letters: Sequence[DeadLetter]) -> None:
        if dead_letters:
            self.dead_letters += len(dead_letters)
            self._dead_letter_bytes += sum(each.size for each in dead_letters)
            self._sender.send(dead_letters)

    def _all_done(self, wait_s: float) -> Iterable[Batch | Sequence[DeadLetter]]:
        try:
            if wait_s:
                yield self._done.get(timeout=wait_s)
            while True:
                yield self._done.get_nowait()
        except queue.Empty:
            return


def _nowhere(_: Batch) -> None:
    raise AssertionError("start() says where batches go")
