"""Which offsets may be committed. Consumer thread only."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from itertools import chain

from kafka import TopicPartition

from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.forwarded import Bundle


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
        # Partition -> offsets of dead letters that Kafka has not acknowledged: how many, since the
        # records of a bundle have one offset.
        self._unacknowledged: dict[TopicPartition, Counter[int]] = defaultdict(Counter)
        # ... and of bundles for other processes.
        self._forwarded: dict[TopicPartition, Counter[int]] = defaultdict(Counter)

    def generation(self, partition: TopicPartition) -> int:
        """The present one, for the batches that are read now."""
        return self._generations[partition]

    def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """These are not ours any more, or were not for a while."""
        for partition in partitions:
            self._generations[partition] += 1
            self._stored.pop(partition, None)
            self._unacknowledged.pop(partition, None)
            self._forwarded.pop(partition, None)

    def unreadable(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Records that were just read, and go to the dead-letter topic instead of the database."""
        for each in dead_letters:
            self._unacknowledged[each.partition][each.record.offset] += 1

    def hold(self, bundle: Bundle) -> None:
        """From here on another process stores; until `release` this may not be passed."""
        for partition, offset in bundle.offsets.items():
            bundle.generations[partition] = self._generations[partition]
            self._forwarded[partition][offset] += 1

    def release(self, bundle: Bundle) -> None:
        """Kafka keeps what was held, or it is stored.

        Of an earlier generation it holds nothing any more: what begins with the same record now is
        another bundle.
        """
        for partition, offset in bundle.offsets.items():
            if bundle.generations[partition] == self._generations[partition]:
                _discard(self._forwarded, partition, offset)

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database, but for its poison, which waits for Kafka."""
        for each in batch.poison:
            if self._is_ours(batch, each.partition):
                self._unacknowledged[each.partition][each.record.offset] += 1
        for bundle in batch.held:
            self.release(bundle)
        for pair, offset in batch.offsets.items():
            partition = TopicPartition(*pair)
            if self._is_ours(batch, partition):
                self._stored[partition].append(offset)

    def _is_ours(self, batch: Batch, partition: TopicPartition) -> bool:
        return batch.generations.get(partition, 0) == self._generations[partition]

    def acknowledged(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Kafka keeps them, of whatever generation: the same record twice is one dead letter."""
        for each in dead_letters:
            _discard(self._unacknowledged, each.partition, each.record.offset)

    def pop_ready(self) -> dict[TopicPartition, int]:
        """What may be committed now and was not returned before."""
        ready: dict[TopicPartition, int] = {}
        for partition, stored in list(self._stored.items()):
            waiting = self._unacknowledged.get(partition, ()), self._forwarded.get(partition, ())
            limit = min(chain(*waiting), default=math.inf)
            while stored and stored[0] <= limit:
                ready[partition] = stored.popleft()
            if not stored:
                del self._stored[partition]
        return ready

    def waiting(self) -> set[TopicPartition]:
        """Partitions that wait for their dead letters."""
        return set(self._unacknowledged)


def _discard(
    waiting: dict[TopicPartition, Counter[int]], partition: TopicPartition, offset: int
) -> None:
    """One of that offset, if there is one."""
    offsets = waiting.get(partition)
    if offsets is None or offset not in offsets:
        return
    offsets[offset] -= 1
    if not offsets[offset]:
        del offsets[offset]
    if not offsets:
        del waiting[partition]
