"""The dead letters that Kafka keeps: read them, and send them again after a fix.

Any thread; each call makes its own client.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from kafka import KafkaProducer
from msgspec import Struct

from tracking.settings import KafkaSettings
from workers.kafka.clients import connection_options
from workers.kafka.dead_letters import (
    DEAD_LETTER_TOPIC,
    NULL,
    OFFSET,
    PARTITION,
    REASON,
    RETRY_TOPIC,
    TIME,
    TOPIC,
    TRUNCATED,
    original_headers,
    source_of,
)
from workers.kafka.whole_topic import NoTopic, records_of

TIMEOUT_MS: Final = 10_000
# Sent and acknowledged together: some megabytes, and progress several times a second.
SLICE: Final = 500


class KeptDeadLetter(Struct, frozen=True):
    """A dead letter as it is kept. `id` is its partition and offset in the dead-letter topic."""

    id: str
    reason: str
    source: str  # topic/partition@offset
    time: str  # when it was written, RFC 3339
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

    @property
    def resendable(self) -> bool:
        """One that was truncated is not the event any more."""
        return TRUNCATED not in source_of(self.headers)


def kept_dead_letters(
    settings: KafkaSettings, since: datetime | None = None
) -> Iterator[KeptDeadLetter]:
    """Every dead letter that is kept now, or those written since.

    KafkaError when Kafka is away, or the topic may not be read.
    """
    try:
        for record in records_of(settings, settings.topic(DEAD_LETTER_TOPIC)):
            if since is None or record.timestamp / 1000 >= since.timestamp():
                yield _kept(record)
    except NoTopic:
        return  # it is made with the first one


def _kept(record: Any) -> KeptDeadLetter:
    added = {
        name: value.decode(errors="replace") for name, value in source_of(record.headers).items()
    }
    source = f"{added.get(TOPIC, '?')}/{added.get(PARTITION, '?')}@{added.get(OFFSET, '?')}"
    return KeptDeadLetter(
        id=f"{record.partition}:{record.offset}",
        reason=added.get(REASON, "?"),
        source=source,
        time=added.get(TIME, "?"),
        key=record.key,
        value=None if NULL in added else record.value,
        headers=list(record.headers),
    )


def resend(
    settings: KafkaSettings, chosen: Iterable[KeptDeadLetter], progress: Callable[[int], None]
) -> int:
    """Put them into the retry topic, which the service reads; how many were acknowledged.

    `progress` is told the number so far. Raises KafkaError: what was acknowledged is there, and
    sending it again does no harm.
    """
    producer = KafkaProducer(
        **connection_options(settings),
        max_request_size=64 << 20,
        bootstrap_timeout_ms=TIMEOUT_MS,
        max_block_ms=TIMEOUT_MS,
        linger_ms=5,
    )
    topic = settings.topic(RETRY_TOPIC)
    done = 0
    try:
        waiting: list[Any] = []
        for dead_letter in chosen:
            value = (
                b"" if dead_letter.value is None and dead_letter.key is None else dead_letter.value
            )
            waiting.append(
                producer.send(topic, key=dead_letter.key, value=value, headers=dead_letter.headers)
            )
            if len(waiting) == SLICE:
                done += _acknowledge(waiting)
                progress(done)
        done += _acknowledge(waiting)
        progress(done)
    finally:
        producer.close(timeout=TIMEOUT_MS / 1000)
    return done


def _acknowledge(waiting: list[Any]) -> int:
    for future in waiting:
        future.get(timeout=TIMEOUT_MS / 1000)
    count = len(waiting)
    waiting.clear()
    return count


def readable_headers(dead_letter: KeptDeadLetter) -> list[tuple[str, str]]:
    """All headers as text, ours first."""
    ours = list(source_of(dead_letter.headers).items())
    return [
        (n, v.decode(errors="backslashreplace"))
        for n, v in ours + original_headers(dead_letter.headers)
    ]
