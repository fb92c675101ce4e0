"""Sends dead letters to `<prefix>.dead-letter`, until Kafka acknowledges them."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from tracking.metrics import Metrics
from tracking.settings import KafkaSettings
from workers.kafka.clients import connection_options
from workers.kafka.dead_letters import (
    DEAD_LETTER_TOPIC,
    DeadLetter,
    Message,
    message_of,
    truncated,
)
from workers.kafka.patches import abandon, without_exit_hook

log = logging.getLogger("tracking.dead_letters")

# The broker says what is too large; here is only a bound for a producer gone wild.
MAX_REQUEST_BYTES: Final = 64 << 20
TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
SEND_TIMEOUT_S: Final = 30.0
RETRY_S: Final = 1.0


class DeadLetterSender:
    """Owns the dead-letters thread; its public methods may be called by any thread."""

    def __init__(
        self, settings: KafkaSettings, metrics: Metrics, died: Callable[[BaseException], None]
    ) -> None:
        self._settings = settings
        self._topic = settings.topic(DEAD_LETTER_TOPIC)
        self._metrics = metrics
        self._died = died
        self._unsent: queue.SimpleQueue[Sequence[DeadLetter]] = queue.SimpleQueue()
        self._acknowledged: Callable[[Sequence[DeadLetter]], None] = _nobody
        self._stopping = threading.Event()
        self._producer: KafkaProducer | None = None
        self._thread = threading.Thread(target=self._main, name="dead-letters", daemon=True)
        # time.monotonic() since when Kafka rejects them; read by other threads.
        self.failing_since: float | None = None

    def start(self, acknowledged: Callable[[Sequence[DeadLetter]], None]) -> None:
        """`acknowledged` is called on the dead-letters thread, in the order of sending."""
        self._acknowledged = acknowledged
        self._thread.start()

    def send(self, dead_letters: Sequence[DeadLetter]) -> None:
        """They are sent until Kafka acknowledges them."""
        self._unsent.put(dead_letters)

    def stop(self) -> None:
        """What Kafka has not acknowledged by now is sent by the next start: its offsets wait."""
        self._stopping.set()
        self._unsent.put(())  # wakes the thread

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if the thread takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            while not self._stopping.is_set():
                dead_letters = self._unsent.get()
                while dead_letters and not self._stopping.is_set():
                    if self._attempt(dead_letters):
                        break
        except BaseException as error:
            log.exception("dead-letter thread died")
            self._died(error)
        finally:
            self._close()

    def _attempt(self, dead_letters: Sequence[DeadLetter]) -> bool:
        try:
            self._send(dead_letters)
        except (KafkaError, OSError) as error:
            self._close()
            if self.failing_since is None and not self._stopping.is_set():
                self.failing_since = time.monotonic()
                log.error("dead letters wait, and their partitions with them: topic %s: %r",
                          self._topic, error)  # fmt: skip
            self._stopping.wait(RETRY_S)
            return False
        if self.failing_since is not None:
            self.failing_since = None
            log.info("dead letters are accepted again")
        self._acknowledged(dead_letters)
        self._metrics.dead_letters.inc(len(dead_letters))
        return True

    def _send(self, dead_letters: Sequence[DeadLetter]) -> None:
        """All acknowledged, or KafkaError."""
        now = datetime.now(UTC)
        messages = [message_of(each, now) for each in dead_letters]
        producer = self._producer = self._producer or self._connect()
        pending = [(message, self._start(producer, message)) for message in messages]
        deadline = time.monotonic() + SEND_TIMEOUT_S
        for message, future in pending:
            try:
                future.get(timeout=max(deadline - time.monotonic(), 0.001))
            except TOO_LARGE:  # the message, or only the batch that it was sent in
                self._send_alone(producer, message)

    def _send_alone(self, producer: KafkaProducer, message: Message) -> None:
        """Whole if the topic accepts it, else its beginning."""
        try:
            self._start(producer, message).get(timeout=SEND_TIMEOUT_S)
        except TOO_LARGE:
            self._start(producer, truncated(message)).get(timeout=SEND_TIMEOUT_S)

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


def _nobody(_: Sequence[DeadLetter]) -> None:
    raise AssertionError("start() says who is told")
