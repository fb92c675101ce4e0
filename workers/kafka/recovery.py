"""What is done after `poll()` raised: skip damaged bytes, stop a partition, or connect anew."""

import logging
import threading
from collections import Counter
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from msgspec import Struct

from workers.kafka.batches import Batch
from workers.kafka.connection import RECONNECT_S
from workers.kafka.patches import lacks_codec, next_offset, unreadable

log = logging.getLogger("tracking.consumer")

# Bytes that cannot be read so often will not be readable later.
TRIES: Final = 3


class Skipped(Struct, frozen=True):
    """Damaged records that are left behind."""

    partition: TopicPartition
    end: int  # the offset that is read next
    batch: Batch  # which counts them


class Recovery:
    """Remembers what could not be read, across consumers. Consumer thread only."""

    def __init__(
        self, stopping: threading.Event, stopped_partitions: dict[TopicPartition, str]
    ) -> None:
        self._stopping = stopping
        self._stopped_partitions = stopped_partitions
        self._tries: Counter[tuple[TopicPartition, int]] = Counter()

    def skip(self, consumer: KafkaConsumer, error: Exception) -> Skipped | None:
        """After an error in poll() the same consumer would raise it for ever.

        None: build a new one. Unless, after three tries, this one is moved past the bytes that
        cannot be read.
        """
        found = unreadable(error)
        if found is None:
            log.warning("Kafka's poll() failed, connecting anew: %r", error)
            self._stopping.wait(RECONNECT_S)
            return None
        partition = found.partition
        if lacks_codec(error):
            self._stopped_partitions[partition] = str(error)
            log.error("partition %s/%d stopped, install the codec and restart: %s",
                      *partition, error)  # fmt: skip
            return None
        offset = next_offset(consumer, partition)
        if offset is None:
            return None
        self._tries[partition, offset] += 1
        if self._tries[partition, offset] < TRIES:
            log.warning("unreadable bytes in %s/%d at offset %d, trying again: %r",
                        *partition, offset, error)  # fmt: skip
            return None
        end = consumer.highwater(partition) or offset + 1
        behind = found.next_offset if found.next_offset is not None else offset + 1
        return self._seek(
            consumer, partition, offset, behind if offset < behind <= end else offset + 1
        )

    def _seek(
        self, consumer: KafkaConsumer, partition: TopicPartition, first: int, end: int
    ) -> Skipped:
        log.error("skipped %d unreadable records in %s/%d: offsets %d to %d",
                  end - first, *partition, first, end - 1)  # fmt: skip
        consumer.seek(partition, end)
        self._tries.clear()
        batch = Batch(size=end - first)
        batch.outcomes["other", "skipped"] = end - first
        return Skipped(partition, end, batch)
