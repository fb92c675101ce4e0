"""Which offsets may be committed. Consumer thread only."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable

from kafka import TopicPartition

from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter


class Offsets:
    """A partition may go forward when all below is stored and its dead letters are acknowledged.

    Only while it is ours: a partition that was revoked may come back further on, since another
    member went on with it, and what was read before must not take it back. Each time that it is
    ours is a generation of its own, and a batch belongs to the one in which it was read.
    """

    def __init__(self) -> None:
        self._generations: Counter[TopicPartition] = Counter()
        # Partition -> (offset, letters that must be acknowledged for it), oldest first.
        self._marks: dict[TopicPartition, deque[tuple[int, int]]] = defaultdict(deque)
        self._written: Counter[TopicPartition] = Counter()
        self._acknowledged: Counter[TopicPartition] = Counter()
        # Letters of earlier generations that are still on their way: nothing waits for them.
        self._strays: Counter[TopicPartition] = Counter()

    def generation(self, partition: TopicPartition) -> int:
        """The present one, for the batches that are read now."""
        return self._generations[partition]

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """These are not ours any more, or were not for a while."""
        for partition in partitions:
            self._generations[partition] += 1
            self._marks.pop(partition, None)
            unacknowledged = self._written.pop(partition, 0) - self._acknowledged.pop(partition, 0)
            self._strays[partition] += unacknowledged

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database; its letters are on their way."""
        for letter in batch.dead:
            partition = _partition_of(letter)
            (self._written if self._is_ours(batch, partition) else self._strays)[partition] += 1
        for pair, offset in batch.offsets.items():
            partition = TopicPartition(*pair)
            if self._is_ours(batch, partition):
                self._marks[partition].append((offset, self._written[partition]))

    def _is_ours(self, batch: Batch, partition: TopicPartition) -> bool:
        return batch.generations.get(partition, 0) == self._generations[partition]

    def acknowledged(self, letters: Iterable[DeadLetter]) -> None:
        """Each partition's letters come back in the order in which they were put."""
        for partition in map(_partition_of, letters):
            if self._strays[partition]:
                self._strays[partition] -= 1
            else:
                self._acknowledged[partition] += 1

    def take(self) -> dict[TopicPartition, int]:
        """What may be committed now and was not taken before."""
        ready: dict[TopicPartition, int] = {}
        for partition, marks in list(self._marks.items()):
            while marks and marks[0][1] <= self._acknowledged[partition]:
                ready[partition] = marks.popleft()[0]
            if not marks:
                del self._marks[partition]
        return ready

    @property
    def dead_letters(self) -> int:
        """Dead letters that Kafka has not acknowledged yet."""
        return self._written.total() - self._acknowledged.total() + self._strays.total()

    def waiting(self) -> set[TopicPartition]:
        """Partitions that wait for their letters."""
        return {
            partition for partition, n in self._written.items() if n > self._acknowledged[partition]
        }


def _partition_of(letter: DeadLetter) -> TopicPartition:
    return TopicPartition(letter.record.topic, letter.record.partition)
