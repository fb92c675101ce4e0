"""From Kafka's records to a batch of typed events. Consumer thread."""

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from tracking.domain.decoding import Decoded, decode
from tracking.domain.envelopes import envelope_of
from tracking.errors import InvalidEvent
from tracking.settings import KafkaSettings
from workers.breaker import Breaker
from workers.kafka.batches import Batch
from workers.kafka.dead_letters import (
    RETRY_TOPIC,
    DeadLetter,
    coordinates_of,
    original_headers,
    retried,
    size_of,
)
from workers.kafka.forwarded import Elsewhere

log = logging.getLogger("tracking.consumer")

# 1970 to 2100; outside of it Kafka's timestamp was made up.
LAST_TIMESTAMP_MS: Final = 4_102_444_800_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def topic_pattern(settings: KafkaSettings, *more: str) -> str:
    """Both layouts, `<prefix>.booking.events` and a topic for each type; retries; `more` topics."""
    prefix = f"{re.escape(settings.kafka_topic_prefix)}\\." if settings.kafka_topic_prefix else ""
    others = "|".join(map(re.escape, (RETRY_TOPIC, *more)))
    return f"^{prefix}((booking|runner)\\.[a-z_]+|{others})$"


class Decoder:
    """Makes batches of what was polled."""

    def __init__(self, settings: KafkaSettings, breaker: Breaker) -> None:
        self._settings = settings
        self._breaker = breaker

    def decode(self, records: Iterable[Any]) -> tuple[Batch, list[DeadLetter]]:
        """The events of a poll, and the records that are none: counted, logged, to be kept.

        Raises IntakeStopped when it is us who cannot decode.
        """
        batch, dead_letters = Batch(), []
        for record in records:
            if isinstance(record, Elsewhere):
                continue
            source = coordinates_of(record)
            name = self._plain_name(source.topic)
            reason = self._add(batch, name, record)
            if reason is not None:
                batch.outcomes[name, "dead"] += 1
                dead_letters.append(DeadLetter(record, reason))
                log.warning("malformed event in %s/%s at offset %s: %s",
                            source.topic, source.partition, source.offset, reason)  # fmt: skip
        return batch, dead_letters

    def _add(self, batch: Batch, name: str, record: Any) -> str | None:
        """Why the record is no event; None if it is one."""
        try:
            found = self._decode(name, record)
        except InvalidEvent as error:
            return str(error)
        except Exception as error:  # our own bug; the dead letter keeps the event until it is fixed
            log.exception("decoding failed")
            self._breaker.failed("decode", _type_of(name, record), record, error)
            return f"cannot be decoded: {type(error).__name__}"
        if self._breaker.has_suspects:
            self._breaker.succeeded("decode", found.type)
        batch.size += 1
        if found.dropped:
            batch.dropped.update(found.dropped)
        if found.event is None:
            batch.outcomes[found.type, "ignored"] += 1
            return None
        batch.bytes += size_of(record)
        batch.events.append(found.event)
        batch.records.append(record)
        return None

    def _decode(self, name: str, record: Any) -> Decoded:
        headers, timestamp = record.headers, record.timestamp
        if name == RETRY_TOPIC:
            source = retried(record)
            if source is None:
                raise InvalidEvent("no dead letter: its headers are missing")
            topic, timestamp = source
            name, headers = self._plain_name(topic), original_headers(headers)
        if not 0 <= timestamp < LAST_TIMESTAMP_MS:
            raise InvalidEvent("Kafka's timestamp is not between the years 1970 and 2100")
        return decode(name, record.value, headers, _time_of(timestamp))

    def _plain_name(self, topic: str) -> str:
        prefix = self._settings.kafka_topic_prefix
        return topic[len(prefix) + 1 :] if prefix else topic


@lru_cache(maxsize=256)  # neighbours in a backlog have the same millisecond
def _time_of(timestamp: int) -> datetime:
    return EPOCH + timedelta(milliseconds=timestamp)


def _type_of(name: str, record: Any) -> str:
    """The type that the record says, else its topic."""
    try:
        return envelope_of(name, record.value, original_headers(record.headers)).type
    except Exception:
        return name
