"""How old the oldest event is that the consumer group has not stored, in any of its members.

Any thread; each call makes its own client, which is no member of the group.
"""

import math
import re
import time
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from tracking.settings import KafkaSettings
from workers.kafka.clients import connection_options
from workers.kafka.decoding import topic_pattern
from workers.kafka.forwarded import ROUTED_TOPIC, unbundled

TIMEOUT_MS: Final = 10_000
# Of each partition the first unread records are enough.
FETCH_BYTES: Final = 16_384


def oldest_unread_s(settings: KafkaSettings) -> float:
    """Seconds; 0.0 when everything is stored, infinite when nobody knows. KafkaError if it is away.

    Asks the broker what the group has committed, so it knows of partitions of other members, of
    partitions that nobody reads, and of what was read and is not stored. Behind an open transaction
    records may lie that nobody can read yet: infinite.
    """
    consumer = KafkaConsumer(
        **connection_options(settings),
        group_id=settings.kafka_group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        bootstrap_timeout_ms=TIMEOUT_MS,
        allow_auto_create_topics=False,
    )
    try:
        pattern = re.compile(topic_pattern(settings, ROUTED_TOPIC))
        places = [
            TopicPartition(topic, number)
            for topic in sorted(filter(pattern.match, consumer.topics()))
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        return _oldest_s(consumer, places, settings.topic(ROUTED_TOPIC))
    finally:
        consumer.close(autocommit=False, timeout_ms=TIMEOUT_MS)


def _oldest_s(consumer: KafkaConsumer, places: list[TopicPartition], routed_topic: str) -> float:
    # Assigned without a position, each begins where the group has committed, or at the beginning.
    consumer.assign(places)
    oldest, waiting = math.inf, set(places)  # oldest: Unix time of the oldest record seen
    end = time.monotonic() + TIMEOUT_MS / 1000
    while waiting:
        if time.monotonic() > end:
            return math.inf
        for place, records in consumer.poll(timeout_ms=500).items():
            times = [one.timestamp for record in records for one in unbundled(record)]
            oldest = min(oldest, min(times) / 1000)
            # A routed partition mixes what several processes forward: the oldest may be the last.
            if place.topic != routed_topic:
                waiting.discard(place)
                consumer.pause(place)
        for place in [place for place in waiting if _is_at_end(consumer, place)]:
            waiting.discard(place)
            consumer.pause(place)
    return 0.0 if oldest == math.inf else max(time.time() - oldest, 0.0)


def _is_at_end(consumer: Any, place: TopicPartition) -> bool:
    """Kafka's high-water mark, not the last stable offset: an open transaction is no end."""
    high_water = consumer.highwater(place)
    return high_water is not None and consumer.position(place, timeout_ms=TIMEOUT_MS) >= high_water
