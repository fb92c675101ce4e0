"""How the consumer comes to Kafka: its options, its topics, what it hears of its group."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tracking.settings import Settings
from workers.kafka.clients import connection_options, explained, telling
from workers.kafka.decoding import topic_pattern
from workers.kafka.flow_control import POLL_RECORDS
from workers.kafka.forwarded import ROUTED_TOPIC
from workers.kafka.patches import patch

log = logging.getLogger("tracking.consumer")

# What one fetch reads of a partition: less makes transactions small, in which each trip costs its
# lock and its head; `Alignment` keeps the partitions in step.
PARTITION_FETCH_BYTES: Final = 512 << 10
RECONNECT_S: Final = 1.0


class Connection:
    """Makes the consumers that read for the group, one after the other. Consumer thread."""

    def __init__(
        self,
        settings: Settings,
        stopping: threading.Event,
        stopped_partitions: Mapping[TopicPartition, str],
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._stopped_partitions = stopped_partitions
        self._revoked: queue.SimpleQueue[set[TopicPartition]] = queue.SimpleQueue()

    def connect(self, tried: Callable[[], None]) -> KafkaConsumer | None:
        """A consumer that has subscribed; None when told to stop before a broker answers.

        `tried` is called after each attempt: a sign of life.
        """
        consumer = self._until_a_broker_answers(tried)
        if consumer is None:
            return None
        patch(consumer)
        listener = _Listener(consumer, self._stopped_partitions, self._revoked)
        consumer.subscribe(pattern=topic_pattern(self._settings, ROUTED_TOPIC), listener=listener)
        tried()
        log.info("connected to Kafka, group %s", self._settings.kafka_group_id)
        return consumer

    def revoked(self) -> set[TopicPartition]:
        """Partitions that were revoked since the last call, even if they are ours again."""
        partitions: set[TopicPartition] = set()
        while not self._revoked.empty():
            partitions |= self._revoked.get()
        return partitions

    def _until_a_broker_answers(self, tried: Callable[[], None]) -> KafkaConsumer | None:
        told = -1
        while not self._stopping.is_set():
            try:
                with explained():
                    return KafkaConsumer(**self._options())
            except (KafkaError, OSError) as error:
                # Once, and again only when more is known: not every try hears why.
                if telling(str(error)) > told:
                    log.warning("no Kafka broker answers: %s; trying on", error)
                    told = telling(str(error))
                tried()
                self._stopping.wait(RECONNECT_S)
        return None

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        return {
            **connection_options(settings),
            "group_id": settings.kafka_group_id,
            "group_instance_id": settings.kafka_instance_id or None,
            "auto_offset_reset": "earliest",
            # What a producer aborts has never happened.
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "max_poll_records": POLL_RECORDS,
            "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
            # A killed process without a static name blocks its partitions for so long.
            "session_timeout_ms": 10_000,
            "heartbeat_interval_ms": 2_000,
            # How soon a new topic is found.
            "metadata_max_age_ms": 2_000,
            "bootstrap_timeout_ms": 3_000,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,  # its own, which nobody reads
        }


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called on kafka-python's IO thread: takes notes, and calls nothing that waits."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        stopped_partitions: Mapping[TopicPartition, str],
        revoked: queue.SimpleQueue[set[TopicPartition]],
    ) -> None:
        self._consumer = consumer
        self._stopped_partitions = stopped_partitions
        self._revoked = revoked

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._revoked.put(set(revoked))

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """What must not be read is paused before the first fetch."""
        held = self._stopped_partitions.keys() & set(assigned)
        if held:
            self._consumer.pause(*held)
