"""How the relay's topic is reached, with librdkafka: its threads need no interpreter. Any thread.

kafka-python stays the consumer of the platform's events; for single small records that have to
arrive at once librdkafka takes a fifth of the CPU and of the time (ADR 0043).
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.cimpl import NewTopic

from tracking.settings import KafkaSettings, Settings

log = logging.getLogger("tracking.relay")

SAID_EVERY_S: Final = 60.0


class Seldom(logging.Filter):
    """librdkafka tells of each failed connection, tens a second: of each kind one line a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = record.getMessage().partition(" ")[0], time.monotonic()
        if now - self._said_at.get(kind, -SAID_EVERY_S) < SAID_EVERY_S:
            return False
        self._said_at[kind] = now
        return True


# Of a client that is polled: librdkafka keeps its lines until then.
library: Final = logging.getLogger("tracking.relay.library")
library.addFilter(Seldom())
TOPIC: Final = "tracking.live"
# PostGIS is the truth: whoever was away for longer reads there.
TOPIC_CONFIG: Final = {"retention.ms": "600000", "segment.bytes": "67108864"}
ANSWER_S: Final = 5.0


class RelayError(Exception):
    """No broker lets the relay's client in."""


def options(settings: KafkaSettings) -> dict[str, Any]:
    """Brokers, TLS and SASL by librdkafka's names."""
    found: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.kafka_brokers),
        "client.id": "service-tracking",
        "security.protocol": settings.kafka_security_protocol,
        # Brokers that are back are found within a second; topics made anew, too.
        "reconnect.backoff.max.ms": 1_000,
        "topic.metadata.refresh.interval.ms": 5_000,
        "topic.metadata.propagation.max.ms": 1_000,
    }
    if settings.uses_tls:
        files = {
            "ssl.ca.location": settings.kafka_ssl_ca,
            "ssl.certificate.location": settings.kafka_ssl_cert,
            "ssl.key.location": settings.kafka_ssl_key,
        }
        found |= {name: path for name, path in files.items() if path}
    if settings.uses_sasl:
        found |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": settings.kafka_sasl_password,
        }
    return found


def ensure_topic(
    admin: AdminClient, topic: str, partitions: int, config: Mapping[str, str] = TOPIC_CONFIG
) -> int:
    """Make the topic if it is not there; how many partitions it has.

    Raises KafkaException while no broker answers, or the topic cannot be made.
    """
    known = partitions_of(admin, topic)
    if known:
        return known
    new = NewTopic(topic, partitions, -1, config=dict(config))
    try:
        admin.create_topics([new], operation_timeout=ANSWER_S)[topic].result(2 * ANSWER_S)
        log.info("made the topic %s with %d partitions", topic, partitions)
    except FutureTimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    return partitions_of(admin, topic)


def compacted(settings: KafkaSettings, topic: str) -> str | None:
    """Make a topic that keeps the newest record of each key for ever, for a few small records.

    Its cleanup.policy, if it was there before: somebody may have made it otherwise. None where we
    may not ask for it. Raises RelayError.
    """
    admin = AdminClient(options(settings) | {"log_level": 0})
    try:
        ensure_topic(admin, topic, 1, {"cleanup.policy": "compact"})
        return _cleanup_policy(admin, topic)
    except KafkaException as error:
        raise RelayError(f"librdkafka: {error.args[0].str()}") from error


def policy_of(settings: KafkaSettings, topic: str) -> str | None:
    """The topic's cleanup.policy; None where it is not told."""
    return _cleanup_policy(AdminClient(options(settings) | {"log_level": 0}), topic)


def _cleanup_policy(admin: AdminClient, topic: str) -> str | None:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    answers = admin.describe_configs([resource], request_timeout=ANSWER_S)
    try:
        return str(answers[resource].result(2 * ANSWER_S)["cleanup.policy"].value)
    except (KafkaException, FutureTimeoutError):
        return None


def reachable_partitions(settings: Settings) -> int:
    """Of the relay's topic, 0 without one. Raises RelayError when no broker lets us in."""
    admin = AdminClient(options(settings) | {"log_level": 0})
    try:
        return partitions_of(admin, settings.topic(TOPIC))
    except KafkaException as error:
        raise RelayError(f"librdkafka: {error.args[0].str()}") from error


def partitions_of(client: Any, topic: str, answer_s: float = ANSWER_S) -> int:
    """0 if it is not there. Raises KafkaException when no broker answers.

    All topics are asked for: a broker may make the one that is named.
    """
    found = client.list_topics(timeout=answer_s).topics.get(topic)
    return 0 if found is None or found.error is not None else len(found.partitions)
