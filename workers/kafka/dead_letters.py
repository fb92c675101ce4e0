"""Events that can never be processed, kept with their reason in `<prefix>.dead-letter`.

Key, value and headers stay as they came; where the record was and why it is here are headers of
our own beside them. At least once: the same source coordinates twice are one dead letter.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from kafka import TopicPartition
from msgspec import Struct

from tracking import __version__
from tracking.domain.times import rfc3339

DEAD_LETTER_TOPIC: Final = "dead-letter"
# Letters that are sent again after a fix; nobody else reads it, so nobody sees an event twice.
RETRY_TOPIC: Final = "tracking.retry"

PREFIX: Final = "dead-letter-"
REASON: Final = PREFIX + "reason"
TOPIC: Final = PREFIX + "topic"
PARTITION: Final = PREFIX + "partition"
OFFSET: Final = PREFIX + "offset"
TIMESTAMP: Final = PREFIX + "timestamp"  # Kafka's time of the source record, ms since 1970
TIME: Final = PREFIX + "time"  # when the dead letter was written, RFC 3339
VERSION: Final = PREFIX + "service-version"
# Only when the record had to be changed to be kept at all.
TRUNCATED: Final = (
    PREFIX + "cut-from-bytes"
)  # the value's whole size: what is here is its beginning
NULL: Final = PREFIX + "null-value"  # no key and no value, which this producer cannot send
# What a dead letter that is sent again keeps: its first coordinates, not those in the retry topic.
SOURCE: Final = (TOPIC, PARTITION, OFFSET, TIMESTAMP)

# Fits every broker: the default limit of a record is 1 MiB.
TRUNCATED_BYTES: Final = 256 << 10


class DeadLetter(Struct, frozen=True):
    """A Kafka record (kafka-python's ConsumerRecord) and why it is dead."""

    record: Any
    reason: str

    @property
    def partition(self) -> TopicPartition:
        """Where the record came from."""
        return TopicPartition(self.record.topic, self.record.partition)

    @property
    def size(self) -> int:
        """What it holds in memory, roughly, in bytes."""
        return size_of(self.record)


class Message(Struct, frozen=True):
    """What is sent."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def size_of(record: Any) -> int:
    """What a Kafka record holds in memory, roughly, in bytes."""
    size = len(record.value or b"") + len(record.key or b"")
    return size + sum(len(n) + len(v or b"") for n, v in record.headers) if record.headers else size


def coordinates_of(record: Any) -> Any:
    """What has the topic, partition and offset that the platform knows.

    Another process may have read the record and forwarded it: workers/kafka/forwarded.py.
    """
    return getattr(record, "source", record)


def source_of(headers: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """The headers that this service added to a dead letter."""
    return {name: value for name, value in headers if name.startswith(PREFIX)}


def original_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the producer of the event wrote."""
    return [(name, value or b"") for name, value in headers if not name.startswith(PREFIX)]


def message_of(dead_letter: DeadLetter, now: datetime) -> Message:
    """The dead letter as it goes to the topic, whole."""
    record = dead_letter.record
    source = coordinates_of(record)
    added = {
        TOPIC: source.topic.encode(),
        PARTITION: b"%d" % source.partition,
        OFFSET: b"%d" % source.offset,
        TIMESTAMP: b"%d" % record.timestamp,
    }
    before = source_of(record.headers)
    added |= {name: before[name] for name in SOURCE if name in before}
    added |= {REASON: dead_letter.reason.encode(), TIME: rfc3339(now).encode()}
    added[VERSION] = __version__.encode()
    value = record.value
    if value is None and record.key is None:
        value, added[NULL] = b"", b"true"
    return Message(record.key, value, original_headers(record.headers) + list(added.items()))


def truncated(message: Message) -> Message:
    """As much as any broker accepts, saying so: the key and our headers, the value's beginning."""
    value = message.value or b""
    ours = list(source_of(message.headers).items())
    theirs = original_headers(message.headers)
    fitting = theirs if sum(len(n) + len(v) for n, v in theirs) < TRUNCATED_BYTES else []
    headers = fitting + ours + [(TRUNCATED, b"%d" % len(value))]
    return Message((message.key or b"")[:TRUNCATED_BYTES] or None, value[:TRUNCATED_BYTES], headers)


def retried(record: Any) -> tuple[str, int] | None:
    """Full topic and Kafka's time (ms) of the source of a record in the retry topic."""
    source = source_of(record.headers)
    try:
        return source[TOPIC].decode(), int(source[TIMESTAMP])
    except (KeyError, ValueError):
        return None
