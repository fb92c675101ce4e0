"""All that a topic holds: for tools, from its beginning to where it ends when they ask.

Any thread; each call makes its own clients.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from tracking.settings import KafkaSettings
from workers.kafka.clients import connection_options

TIMEOUT_MS: Final = 10_000
# Longer than a partition is without a leader when its broker dies.
SILENT_S: Final = 30.0


class NoTopic(KafkaError):  # type: ignore[misc]  # kafka-python has no types
    """There is none of this name; that is something else than an empty one."""


def records_of(settings: KafkaSettings, topic: str) -> Iterator[Any]:
    """Of each partition in its order, up to where it ends now: others may be writing.

    Raises NoTopic, TopicAuthorizationFailedError where it may not be seen or read, and another
    KafkaError when no broker answers, or nothing has come for SILENT_S although there is more.
    """
    numbers = _partitions(settings, topic)
    consumer = KafkaConsumer(
        **connection_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=TIMEOUT_MS,
        allow_auto_create_topics=False,
    )
    try:
        yield from _read(consumer, [TopicPartition(topic, number) for number in numbers])
    finally:
        consumer.close(autocommit=False, timeout_ms=TIMEOUT_MS)


def _partitions(settings: KafkaSettings, topic: str) -> list[int]:
    """Asked by its name: a list of all topics leaves out those that may not be seen."""
    admin = KafkaAdminClient(**connection_options(settings), bootstrap_timeout_ms=TIMEOUT_MS)
    try:
        (found,) = admin.describe_topics([topic])
    finally:
        admin.close()
    error = for_code(found["error_code"])
    if error is UnknownTopicOrPartitionError:
        raise NoTopic(f"there is no topic {topic}")
    if error is TopicAuthorizationFailedError:
        raise TopicAuthorizationFailedError(f"the ACLs let nobody of this name see {topic}")
    numbers = sorted(each["partition_index"] for each in found["partitions"])
    if not numbers:  # it is being made, or no broker knows better
        raise error(f"{topic} has no partitions yet")
    return numbers


def _read(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> Iterator[Any]:
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS)
    consumer.seek_to_beginning(*partitions)
    places, moved_at = None, time.monotonic()
    while True:
        # What was compacted away, and marks of transactions, move these on, too.
        now = [consumer.position(each, timeout_ms=TIMEOUT_MS) for each in partitions]
        if all(at >= ends[each] for each, at in zip(partitions, now, strict=True)):
            return
        if now != places:
            places, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > SILENT_S:
            raise KafkaTimeoutError(f"{partitions[0].topic}: nothing has come for {SILENT_S:g} s")
        for partition, records in consumer.poll(timeout_ms=1_000).items():
            yield from (record for record in records if record.offset < ends[partition])
