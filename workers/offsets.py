"""Which offsets may be committed. Consumer thread only."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable

from kafka import TopicPartition

from workers.batches import Batch
from workers.dead_letters import DeadLetter


class Offsets:
    """A partition may go forward when all below is stored and its dead letters are acknowledged."""

    def __init__(self) -> None:
        # Partition -> (offset, letters that must be acknowledged for it), oldest first.
        self._marks: dict[TopicPartition, deque[tuple[int, int]]] = defaultdict(deque)
        self._written: Counter[TopicPartition] = Counter()
        self._acknowledged: Counter[TopicPartition] = Counter()

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database; its letters are on their way."""
        self._written.update(map(_partition_of, batch.dead))
        for (topic, partition), offset in batch.offsets.items():
            place = TopicPartition(topic, partition)
            self._marks[place].append((offset, self._written[place]))

    def acknowledged(self, letters: Iterable[DeadLetter]) -> None:
        """Each partition's letters come back in the order in which they were put."""
        self._acknowledged.update(map(_partition_of, letters))

    def take(self) -> dict[TopicPartition, int]:
        """What may be committed now and was not taken before."""
        ready: dict[TopicPartition, int] = {}
        for place, marks in list(self._marks.items()):
            while marks and marks[0][1] <= self._acknowledged[place]:
                ready[place] = marks.popleft()[0]
            if not marks:
                del self._marks[place]
        return ready

    @property
    def letters(self) -> int:
        """Dead letters that Kafka has not acknowledged yet."""
        return self._written.total() - self._acknowledged.total()

    def waiting(self) -> set[TopicPartition]:
        """Partitions that wait for their letters."""
        return {place for place, n in self._written.items() if n > self._acknowledged[place]}


def _partition_of(letter: DeadLetter) -> TopicPartition:
    return TopicPartition(letter.record.topic, letter.record.partition)
