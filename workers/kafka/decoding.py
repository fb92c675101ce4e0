"""From Kafka's records to a batch of typed events. The consumer's thread.

What cannot be understood is counted, logged once, and becomes a dead letter; nothing here raises.
"""

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kafka import TopicPartition

from tracking.domain.decoding import Decoded, decode
from tracking.errors import InvalidEvent
from tracking.settings import KafkaSettings
from workers.kafka.batches import Batch
from workers.kafka.dead_letters import RETRY_TOPIC, DeadLetter, original_headers, retried

log = logging.getLogger("tracking.consumer")

# 1970 to 2100; outside of it Kafka's timestamp was made up.
LAST_TIMESTAMP_MS: Final = 4_102_444_800_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def topic_pattern(settings: KafkaSettings) -> str:
    """Both layouts, `<prefix>.booking.events` and a topic for each type; and what is retried."""
    prefix = f"{re.escape(settings.kafka_topic_prefix)}\\." if settings.kafka_topic_prefix else ""
    return f"^{prefix}((booking|runner)\\.[a-z_]+|{re.escape(RETRY_TOPIC)})$"


def decoded(polled: dict[TopicPartition, list[Any]], settings: KafkaSettings) -> Batch:
    """One poll's records; the batch says up to which offset its partitions are read."""
    batch = Batch()
    for partition, records in polled.items():
        name = _plain_name(partition.topic, settings)
        for record in records:
            _add(batch, name, record, settings)
        batch.offsets[partition.topic, partition.partition] = records[-1].offset + 1
    return batch


def _add(batch: Batch, name: str, record: Any, settings: KafkaSettings) -> None:
    batch.size += 1
    batch.bytes += _size(record)
    try:
        found = _decode(name, record, settings)
    except InvalidEvent as error:
        return _refuse(batch, name, record, str(error))
    except Exception as error:  # our own bug; the letter keeps the event until it is mended
        log.exception("decoding failed")
        return _refuse(batch, name, record, f"cannot be decoded: {type(error).__name__}")
    batch.dropped.update(found.dropped)
    if found.event is None:
        batch.outcomes[found.type, "ignored"] += 1
        return None
    batch.events.append(found.event)
    batch.records.append(record)
    return None


def _decode(name: str, record: Any, settings: KafkaSettings) -> Decoded:
    headers, timestamp = record.headers, record.timestamp
    if name == RETRY_TOPIC:
        source = retried(record)
        if source is None:
            raise InvalidEvent("no dead letter: its headers are missing")
        topic, timestamp = source
        name, headers = _plain_name(topic, settings), original_headers(headers)
    if not 0 <= timestamp < LAST_TIMESTAMP_MS:
        raise InvalidEvent("Kafka's timestamp is not between the years 1970 and 2100")
    kafka_time = EPOCH + timedelta(milliseconds=timestamp)
    return decode(name, record.value, headers, kafka_time)


def _refuse(batch: Batch, name: str, record: Any, reason: str) -> None:
    batch.outcomes[name, "dead"] += 1
    batch.dead.append(DeadLetter(record, reason))
    log.warning("malformed event in %s/%s at offset %s: %s",
                record.topic, record.partition, record.offset, reason)  # fmt: skip


def _plain_name(topic: str, settings: KafkaSettings) -> str:
    prefix = settings.kafka_topic_prefix
    return topic[len(prefix) + 1 :] if prefix else topic


def _size(record: Any) -> int:
    """What the record holds in memory, roughly."""
    size = len(record.value or b"") + len(record.key or b"")
    return size + sum(len(n) + len(v or b"") for n, v in record.headers) if record.headers else size
