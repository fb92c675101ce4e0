"""The consumer group set back in time, so that a restored database gets again what it lost."""

import re
from datetime import datetime
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from msgspec import Struct

from tracking.settings import KafkaSettings
from workers.kafka.clients import connection_options
from workers.kafka.decoding import topic_pattern

TIMEOUT_MS: Final = 10_000


class Rewound(Struct, frozen=True):
    """Where the group will go on in one partition."""

    topic: str
    partition: int
    before: int
    after: int
    begins_here: bool  # Kafka has deleted older records: some that are needed may be among them


def rewind(settings: KafkaSettings, since: datetime, *, dry_run: bool) -> list[Rewound]:
    """Commit the first offsets since then, never later ones than the group has.

    Raises KafkaError, having changed nothing, while the group has a member.
    """
    consumer = KafkaConsumer(
        **connection_options(settings),
        group_id=settings.kafka_group_id,
        enable_auto_commit=False,
        bootstrap_timeout_ms=TIMEOUT_MS,
        allow_auto_create_topics=False,
    )
    try:
        found = _partitions(consumer, settings, since)
        if found and not dry_run:
            offsets = {
                TopicPartition(r.topic, r.partition): OffsetAndMetadata(r.after, "", -1)
                for r in found
            }
            consumer.assign(list(offsets))
            consumer.commit(offsets, timeout_ms=TIMEOUT_MS)
        return found
    finally:
        consumer.close(autocommit=False, timeout_ms=TIMEOUT_MS)


def _partitions(consumer: KafkaConsumer, settings: KafkaSettings, since: datetime) -> list[Rewound]:
    pattern = re.compile(topic_pattern(settings))
    partitions = [
        TopicPartition(topic, number)
        for topic in sorted(filter(pattern.match, consumer.topics()))
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    at = round(since.timestamp() * 1000)
    first = consumer.offsets_for_times(dict.fromkeys(partitions, at), timeout_ms=TIMEOUT_MS)
    beginnings = consumer.beginning_offsets(partitions, timeout_ms=TIMEOUT_MS)
    found = []
    for partition in partitions:
        before = consumer.committed(partition, timeout_ms=TIMEOUT_MS)
        # Without a commit the group starts at the beginning; without a record there is nothing.
        if before is not None and first.get(partition) is not None:
            after = min(before, first[partition].offset)
            begins = after == beginnings[partition] > 0
            found.append(Rewound(partition.topic, partition.partition, before, after, begins))
    return found
