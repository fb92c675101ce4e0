"""The Kafka thread: poll, decode, hand over, commit. Nothing else ever touches the consumer.

An offset is committed after the transaction that stored its record, never before. Waiting is the
backpressure: while two batches are in flight nothing is polled but the group's heartbeat.
"""

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from tracking.errors import InvalidEvent
from tracking.events import decode
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.batches import Batch, Origin

log = logging.getLogger("tracking.consumer")

# Decoding one poll takes some 10 ms: the interpreter is not held for longer beside live viewers.
POLL_RECORDS: Final = 1000
# What one partition is read ahead of the others: less makes a backlog arrive nearly in order, and
# waypoints that are in order cost no look-up.
PARTITION_FETCH_BYTES: Final = 128 << 10
# How long poll() waits for a record; a stop and a commit wait for it, too.
POLL_TIMEOUT_MS: Final = 100
# Two batches of ordinary records are 4 MiB; 32 MiB bound those of a producer gone wild.
MAX_BYTES_IN_FLIGHT: Final = 32 << 20
# Committing costs a round trip, and a crash in between only means duplicates.
COMMIT_INTERVAL_S: Final = 0.5
LAG_INTERVAL_S: Final = 5.0
# The group's coordinator may be away; storing goes on without it.
KAFKA_TIMEOUT_MS: Final = 5_000
RECONNECT_S: Final = 1.0

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Consumer:
    """Owns the consumer thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        died: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._hand_over: Callable[[Batch], None] = _nowhere
        self._died = died
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._stored: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="consumer", daemon=True)
        self._in_flight_records = 0
        self._in_flight_bytes = 0
        self._to_commit: dict[TopicPartition, OffsetAndMetadata] = {}
        self._next_commit = 0.0
        self._next_lag = 0.0
        # Read by readiness checks on other threads; a stale value is a fine answer.
        self.last_poll = 0.0  # time.monotonic() of the last poll() that returned
        self.assigned = 0  # partitions that are ours
        self.partitions = 0  # partitions that there are
        self.connected = False

    def start(self, hand_over: Callable[[Batch], None]) -> None:
        """Begin to poll; `hand_over` is called on the consumer's thread."""
        self._hand_over = hand_over
        self._thread.start()

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database. Any thread."""
        self._stored.put(batch)

    def stop(self) -> None:
        """Poll no more. Any thread; `wait` for the end."""
        self._stopping.set()

    def wait(self, timeout_s: float) -> bool:
        """Commit what is stored and close. Not on the IOLoop; False if it takes longer."""
        self._finished.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            log.exception("consumer thread died")
            self._died(error)

    def _run(self) -> None:
        consumer = self._connect()
        if consumer is None:
            return
        try:
            while not self._stopping.is_set():
                self._turn(consumer)
            # Whatever is in flight may still be stored: commit it, then leave the group.
            while not self._finished.wait(POLL_TIMEOUT_MS / 1000):
                self._collect_stored(block=False)
            self._collect_stored(block=False)
            self._commit(consumer, wait=True)
        finally:
            consumer.close(autocommit=False, timeout_ms=KAFKA_TIMEOUT_MS)

    def _connect(self) -> KafkaConsumer | None:
        """Try until there is a broker; None when told to stop before."""
        said = False
        while not self._stopping.is_set():
            try:
                consumer = KafkaConsumer(**self._options())
                break
            except (KafkaError, OSError) as error:
                if not said:
                    log.warning("no Kafka broker answers: %s; trying on", error)
                    said = True
                self._stopping.wait(RECONNECT_S)
        else:
            return None
        consumer.subscribe(pattern=topic_pattern(self._settings))
        self.last_poll = time.monotonic()
        self.connected = True
        log.info("connected to Kafka, group %s", self._settings.kafka_group_id)
        return consumer

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "bootstrap_servers": list(settings.kafka_brokers),
            "client_id": "service-tracking",
            "group_id": settings.kafka_group_id,
            "group_instance_id": settings.kafka_instance_id or None,
            "auto_offset_reset": "earliest",
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
        }

    def _turn(self, consumer: KafkaConsumer) -> None:
        if self._is_full():
            self._hold(consumer)
        else:
            polled = consumer.poll(timeout_ms=POLL_TIMEOUT_MS)
            self._returned(consumer)
            _resume_join(consumer)
            if polled:
                self._offer(polled)
        self._collect_stored(block=False)
        self._commit(consumer, wait=False)
        self._measure_lag(consumer)

    def _is_full(self) -> bool:
        return (
            self._in_flight_records >= 2 * self._settings.batch_records
            or self._in_flight_bytes >= MAX_BYTES_IN_FLIGHT
        )

    def _hold(self, consumer: KafkaConsumer) -> None:
        """Wait for a batch to be stored, while the group sees that we live."""
        self._collect_stored(block=True)
        if self._is_full():
            assigned = consumer.assignment()
            consumer.pause(*assigned)
            consumer.poll(timeout_ms=0)
            consumer.resume(*assigned)
            self._returned(consumer)

    def _returned(self, consumer: KafkaConsumer) -> None:
        self.last_poll = time.monotonic()
        self.assigned = len(consumer.assignment())
        self._metrics.last_poll.set_to_current_time()

    def _offer(self, polled: dict[TopicPartition, list[Any]]) -> None:
        batch = self.decode_records(polled)
        self._in_flight_records += batch.records
        self._in_flight_bytes += batch.size
        self._hand_over(batch)

    def decode_records(self, polled: dict[TopicPartition, list[Any]]) -> Batch:
        """Typed events from records; what is malformed is counted, and logged once."""
        batch = Batch()
        for partition, records in polled.items():
            name = self._plain_name(partition.topic)
            for record in records:
                self._decode_record(batch, name, record)
            batch.offsets[partition.topic, partition.partition] = records[-1].offset + 1
        return batch

    def _decode_record(self, batch: Batch, name: str, record: Any) -> None:
        kafka_time = EPOCH + timedelta(milliseconds=record.timestamp)
        batch.records += 1
        batch.size += len(record.value or b"")
        try:
            decoded = decode(name, record.value, record.headers, kafka_time)
        except InvalidEvent as error:
            batch.outcomes[name, "dead"] += 1
            place = (record.topic, record.partition, record.offset)
            log.warning("malformed event in %s/%s at offset %s: %s", *place, error)
            return
        if decoded.event is None:
            batch.outcomes[decoded.type, "ignored"] += 1
            return
        batch.events.append(decoded.event)
        batch.origins.append(Origin(record.topic, record.partition, record.offset, decoded.id))

    def _plain_name(self, topic: str) -> str:
        prefix = self._settings.kafka_topic_prefix
        return topic[len(prefix) + 1 :] if prefix else topic

    def _collect_stored(self, *, block: bool) -> None:
        """Take what ingest has stored; when blocking, wait up to a second for the first."""
        for batch in self._stored_batches(block):
            self._in_flight_records -= batch.records
            self._in_flight_bytes -= batch.size
            for (topic, partition), offset in batch.offsets.items():
                place = TopicPartition(topic, partition)
                self._to_commit[place] = OffsetAndMetadata(offset, "", -1)

    def _stored_batches(self, block: bool) -> Iterable[Batch]:
        try:
            if block:
                yield self._stored.get(timeout=1.0)
            while True:
                yield self._stored.get_nowait()
        except queue.Empty:
            return

    def _commit(self, consumer: KafkaConsumer, *, wait: bool) -> None:
        now = time.monotonic()
        if not self._to_commit or (now < self._next_commit and not wait):
            return
        self._next_commit = now + COMMIT_INTERVAL_S
        # A partition that went to another member is that one's to commit.
        ours = consumer.assignment()
        offsets = {place: o for place, o in self._to_commit.items() if place in ours}
        self._to_commit.clear()
        try:
            if wait and offsets:
                consumer.commit(offsets, timeout_ms=KAFKA_TIMEOUT_MS)
            elif offsets:
                consumer.commit_async(offsets, callback=_committed)
        except KafkaError as error:
            log.info("offsets not committed, the records may come again: %r", error)

    def _measure_lag(self, consumer: KafkaConsumer) -> None:
        now = time.monotonic()
        if now < self._next_lag:
            return
        self._next_lag = now + LAG_INTERVAL_S
        assigned = consumer.assignment()
        topics = {place.topic for place in assigned}
        self.partitions = sum(len(consumer.partitions_for_topic(t) or ()) for t in topics)
        for place in assigned:
            end = consumer.highwater(place)
            if end is not None:
                lag = end - consumer.position(place, timeout_ms=KAFKA_TIMEOUT_MS)
                self._metrics.lag.labels(place.topic, place.partition).set(lag)


def topic_pattern(settings: Settings) -> str:
    """Both layouts: `<prefix>.booking.events` and a topic for each type."""
    prefix = f"{re.escape(settings.kafka_topic_prefix)}\\." if settings.kafka_topic_prefix else ""
    return f"^{prefix}(booking|runner)\\.[a-z_]+$"


def _resume_join(consumer: KafkaConsumer) -> None:
    """Let the next poll() wait for a join that this one did not wait out.

    kafka-python 3.0.12 forgets it when new topics or partitions were its cause, and then sits
    without partitions and heartbeat for ever. There is no public call for it.
    """
    coordinator = consumer._coordinator
    if coordinator.state is MemberState.REBALANCING:
        coordinator.request_rejoin()


def _nowhere(_: Batch) -> None:
    raise AssertionError("start() says where batches go")


def _committed(_: object, response: object) -> None:
    if isinstance(response, Exception):
        # Normal while the group rebalances: the next commit covers this one.
        log.info("offsets not committed, the records may come again: %r", response)
