"""Which offsets may be committed. Consumer thread only."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping

from kafka import TopicPartition

from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter


class Offsets:
    """A partition may go forward when all below is stored, and Kafka keeps what is not stored here.

    That is dead letters, and what another process stores.

    Only while it is ours: a partition that was revoked may come back further on, since another
    member went on with it, and what was read before must not set it back. Each time that it is
    ours is a generation of its own, and a batch belongs to the one in which it was read.
    """

    def __init__(self) -> None:
        self._generations: Counter[TopicPartition] = Counter()
        # Partition -> offsets up to which all is stored, oldest first.
        self._stored: dict[TopicPartition, deque[int]] = defaultdict(deque)
        # Partition -> offsets of records that are to go back to Kafka and that it has not
        # acknowledged: how many, since those of a bundle have one offset.
        self._unacknowledged: dict[TopicPartition, Counter[int]] = defaultdict(Counter)

    def generation(self, partition: TopicPartition) -> int:
        """The present one, for the batches that are read now."""
        return self._generations[partition]

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """These are not ours any more, or were not for a while."""
        for partition in partitions:
            self._generations[partition] += 1
            self._stored.pop(partition, None)
            self._unacknowledged.pop(partition, None)

    def unreadable(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Records that were just read, and go to the dead-letter topic instead of the database."""
        for each in dead_letters:
            self._unacknowledged[each.partition][each.record.offset] += 1

    def hold(self, offsets: Mapping[TopicPartition, int]) -> None:
        """From here on another process stores; until `release` they may not be passed."""
        for partition, offset in offsets.items():
            self._unacknowledged[partition][offset] += 1

    def release(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Kafka keeps what was held, or it is stored, in whatever generation it was read."""
        for partition, offset in offsets.items():
            waiting = self._unacknowledged.get(partition)
            if waiting is not None and offset in waiting:
                waiting[offset] -= 1
                if not waiting[offset]:
                    del waiting[offset]
                if not waiting:
                    del self._unacknowledged[partition]

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database, but for its poison, which waits for Kafka."""
        for each in batch.poison:
            if self._is_ours(batch, each.partition):
                self._unacknowledged[each.partition][each.record.offset] += 1
        for held in batch.held:
            self.release(held)
        for pair, offset in batch.offsets.items():
            partition = TopicPartition(*pair)
            if self._is_ours(batch, partition):
                self._stored[partition].append(offset)

    def _is_ours(self, batch: Batch, partition: TopicPartition) -> bool:
        return batch.generations.get(partition, 0) == self._generations[partition]

    def acknowledged(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Kafka keeps them, of whatever generation: the same record twice is one dead letter."""
        for each in dead_letters:
            self.release({each.partition: each.record.offset})

    def pop_ready(self) -> dict[TopicPartition, int]:
        """What may be committed now and was not returned before."""
        ready: dict[TopicPartition, int] = {}
        for partition, stored in list(self._stored.items()):
            limit = min(self._unacknowledged.get(partition, ()), default=math.inf)
            while stored and stored[0] <= limit:
                ready[partition] = stored.popleft()
            if not stored:
                del self._stored[partition]
        return ready

    def waiting(self) -> set[TopicPartition]:
        """Partitions that wait for what goes back to Kafka."""
        return set(self._unacknowledged)
