"""Events that can never be processed, kept with their reason in `<prefix>.dead-letter`.

Key, value and headers stay as they came; where the record was and why it is here are headers of
our own beside them. At least once: the same source coordinates twice are the same letter.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from msgspec import Struct

from tracking import __version__
from tracking.domain.times import rfc3339
from tracking.metrics import Metrics
from tracking.settings import KafkaSettings
from workers.kafka.clients import connection_options
from workers.kafka.patches import abandon, without_exit_hook

log = logging.getLogger("tracking.dead_letters")

DEAD_LETTER_TOPIC: Final = "dead-letter"
# Letters that are sent again after a fix; nobody else reads it, so nobody sees an event twice.
RETRY_TOPIC: Final = "tracking.retry"

PREFIX: Final = "dead-letter-"
REASON: Final = PREFIX + "reason"
TOPIC: Final = PREFIX + "topic"
PARTITION: Final = PREFIX + "partition"
OFFSET: Final = PREFIX + "offset"
TIMESTAMP: Final = PREFIX + "timestamp"  # Kafka's time of the source record, ms since 1970
TIME: Final = PREFIX + "time"  # when the letter was written, RFC 3339
VERSION: Final = PREFIX + "service-version"
# Only when the record had to be changed to be kept at all.
CUT: Final = PREFIX + "cut-from-bytes"  # the value's whole size: what is here is its beginning
NULL: Final = PREFIX + "null-value"  # no key and no value, which this producer cannot send
# What a letter that is sent again keeps: its first coordinates, not those in the retry topic.
SOURCE: Final = (TOPIC, PARTITION, OFFSET, TIMESTAMP)

# The broker says what is too large; here is only a bound for a producer gone wild.
MAX_REQUEST_BYTES: Final = 64 << 20
# Fits every broker: the default limit of a record is 1 MiB.
CUT_BYTES: Final = 256 << 10
TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
SEND_TIMEOUT_S: Final = 30.0
RETRY_S: Final = 1.0


class DeadLetter(Struct, frozen=True):
    """A Kafka record (kafka-python's ConsumerRecord) and why it is dead."""

    record: Any
    reason: str


class Message(Struct, frozen=True):
    """What is sent."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def source_of(headers: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """The headers that this service added to a letter."""
    return {name: value for name, value in headers if name.startswith(PREFIX)}


def original_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the producer of the event wrote."""
    return [(name, value or b"") for name, value in headers if not name.startswith(PREFIX)]


def message_of(letter: DeadLetter, now: datetime) -> Message:
    """The letter as it goes to the topic, whole."""
    record = letter.record
    added = {
        TOPIC: record.topic.encode(),
        PARTITION: b"%d" % record.partition,
        OFFSET: b"%d" % record.offset,
        TIMESTAMP: b"%d" % record.timestamp,
    }
    before = source_of(record.headers)
    added |= {name: before[name] for name in SOURCE if name in before}
    added |= {REASON: letter.reason.encode(), TIME: rfc3339(now).encode()}
    added[VERSION] = __version__.encode()
    value = record.value
    if value is None and record.key is None:
        value, added[NULL] = b"", b"true"
    return Message(record.key, value, original_headers(record.headers) + list(added.items()))


def cut(message: Message) -> Message:
    """As much as any broker takes, saying so: the key and our headers, the value's beginning."""
    value = message.value or b""
    ours = list(source_of(message.headers).items())
    theirs = original_headers(message.headers)
    kept = theirs if sum(len(n) + len(v) for n, v in theirs) < CUT_BYTES else []
    headers = kept + ours + [(CUT, b"%d" % len(value))]
    return Message((message.key or b"")[:CUT_BYTES] or None, value[:CUT_BYTES], headers)


class DeadLetters:
    """Owns the thread that sends them. `put` and `stop` may be called by any thread."""

    def __init__(
        self, settings: KafkaSettings, metrics: Metrics, died: Callable[[BaseException], None]
    ) -> None:
        self._settings = settings
        self._topic = settings.topic(DEAD_LETTER_TOPIC)
        self._metrics = metrics
        self._died = died
        self._letters: queue.SimpleQueue[Sequence[DeadLetter]] = queue.SimpleQueue()
        self._acknowledged: queue.SimpleQueue[Sequence[DeadLetter]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._producer: KafkaProducer | None = None
        self._thread = threading.Thread(target=self._main, name="dead-letters", daemon=True)
        # time.monotonic() since when Kafka refuses them; read by other threads.
        self.failing_since: float | None = None

    def start(self) -> None:
        self._thread.start()

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """They are sent until Kafka acknowledges them."""
        self._letters.put(letters)

    def acknowledged(self) -> list[DeadLetter]:
        """Those that are safe since the last call, each partition's in order."""
        found: list[DeadLetter] = []
        with suppress(queue.Empty):
            while True:
                found += self._acknowledged.get_nowait()
        return found

    def stop(self) -> None:
        self._stopping.set()
        self._letters.put(())  # wakes the thread

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if the thread takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            while not self._stopping.is_set():
                letters = self._letters.get()
                while letters and not self._stopping.is_set():
                    if self._attempt(letters):
                        break
        except BaseException as error:
            log.exception("dead-letter thread died")
            self._died(error)
        finally:
            self._close()

    def _attempt(self, letters: Sequence[DeadLetter]) -> bool:
        try:
            self._send(letters)
        except (KafkaError, OSError) as error:
            self._close()
            if self.failing_since is None:
                self.failing_since = time.monotonic()
                log.error("dead letters wait, and their partitions with them: topic %s: %r",
                          self._topic, error)  # fmt: skip
            self._stopping.wait(RETRY_S)
            return False
        if self.failing_since is not None:
            self.failing_since = None
            log.info("dead letters are taken again")
        self._acknowledged.put(letters)
        self._metrics.dead_letters.inc(len(letters))
        return True

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        """All acknowledged, or KafkaError."""
        now = datetime.now(UTC)
        messages = [message_of(letter, now) for letter in letters]
        producer = self._producer = self._producer or self._connect()
        pending = [(message, self._start(producer, message)) for message in messages]
        deadline = time.monotonic() + SEND_TIMEOUT_S
        for message, future in pending:
            try:
                future.get(timeout=max(deadline - time.monotonic(), 0.001))
            except TOO_LARGE:  # the message, or only the batch that it was sent in
                self._send_alone(producer, message)

    def _send_alone(self, producer: KafkaProducer, message: Message) -> None:
        """Whole if the topic takes it, else its beginning."""
        try:
            self._start(producer, message).get(timeout=SEND_TIMEOUT_S)
        except TOO_LARGE:
            self._start(producer, cut(message)).get(timeout=SEND_TIMEOUT_S)

    def _start(self, producer: KafkaProducer, message: Message) -> Any:
        return producer.send(
            self._topic, key=message.key, value=message.value, headers=message.headers
        )

    def _connect(self) -> KafkaProducer:
        return without_exit_hook(
            KafkaProducer(
                **connection_options(self._settings),
                linger_ms=5,
                acks="all",
                # An idempotent producer never recovers from a message that was too large.
                enable_idempotence=False,
                max_request_size=MAX_REQUEST_BYTES,
                bootstrap_timeout_ms=3_000,
                # A topic that is not there; tried again for ever, above.
                max_block_ms=5_000,
            )
        )

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)


def retried(record: Any) -> tuple[str, int] | None:
    """Full topic and Kafka's time (ms) of the source of a record in the retry topic."""
    source = source_of(record.headers)
    try:
        return source[TOPIC].decode(), int(source[TIMESTAMP])
    except (KeyError, ValueError):
        return None
