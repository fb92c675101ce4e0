"""The Kafka thread: poll, have decoded, hand over, commit. Nothing else ever touches the consumer.

An offset is committed after the transaction that stored its record and the acknowledgement of the
dead letters below it, never before. Waiting is the backpressure: while two batches are in flight
nothing is polled but the group's heartbeat.
"""

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.kafka.alignment import Alignment
from workers.kafka.batches import Batch
from workers.kafka.clients import connection_options, explained, telling
from workers.kafka.dead_letters import DeadLetters
from workers.kafka.decoding import decoded, topic_pattern
from workers.kafka.offsets import Offsets
from workers.kafka.patches import mend, resume_join
from workers.kafka.unreadable import lacks_codec, unreadable

log = logging.getLogger("tracking.consumer")

# Decoding one poll takes some 10 ms: the interpreter is not held for longer beside live viewers.
POLL_RECORDS: Final = 1000
# What one partition is read ahead of the others: less makes a backlog arrive nearly in order, and
# waypoints that are in order cost no look-up.
PARTITION_FETCH_BYTES: Final = 128 << 10
# How long poll() waits for a record; a stop and a commit wait for it, too. An empty poll() costs a
# millisecond of CPU.
POLL_TIMEOUT_MS: Final = 500
# The same while a partition is held back, or all are: soon something may let it go on.
HELD_TIMEOUT_MS: Final = 100
# Two batches of ordinary records are 4 MiB; 32 MiB bound those of a producer gone wild.
MAX_BYTES_IN_FLIGHT: Final = 32 << 20
# Committing costs a round trip, and a crash in between only means duplicates.
COMMIT_INTERVAL_S: Final = 0.5
LAG_INTERVAL_S: Final = 5.0
# The group's coordinator may be away; storing goes on without it.
KAFKA_TIMEOUT_MS: Final = 5_000
RECONNECT_S: Final = 1.0
# Whatever else makes kafka-python spin inside poll() (see mends.py): an empty poll() that took so
# much CPU is followed by a rest.
SPIN_S: Final = 0.01
REST_S: Final = 0.5
# Bytes that cannot be read so often will not be readable later.
TRIES: Final = 3
# A new consumer reads from the committed offsets: what is in flight is given time to be stored.
RENEWAL_S: Final = 5.0
# A healthy Kafka acknowledges in milliseconds.
LETTERS_S: Final = 1.0


class Consumer:
    """Owns the consumer thread."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        dead_letters: DeadLetters,
        died: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._dead_letters = dead_letters
        self._hand_over: Callable[[Batch], None] = _nowhere
        self._died = died
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._stored: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="consumer", daemon=True)
        self._in_flight_records = 0
        self._in_flight_bytes = 0
        self._offsets = Offsets()
        self._alignment = Alignment()
        self._revoked: queue.SimpleQueue[set[TopicPartition]] = queue.SimpleQueue()
        self._to_commit: dict[TopicPartition, OffsetAndMetadata] = {}
        self._tries: Counter[tuple[TopicPartition, int]] = Counter()
        self._commits_fail = False
        self._next_commit = 0.0
        self._next_lag = 0.0
        # Read by readiness checks on other threads; a stale value is a fine answer.
        # time.monotonic() of the last sign of life: poll() returned, or a try to connect ended.
        self.last_poll = time.monotonic()
        self.assigned = 0  # partitions that are ours
        self.partitions = 0  # partitions that there are
        self.connected = False
        self.stopped: dict[TopicPartition, str] = {}  # partitions that need an operator, and why
        self._lag: int | None = None  # records not read, as measured last; None: not known yet
        self._read_until = 0.0  # Kafka's time of the newest record read, seconds since 1970
        self._unreachable_since: float | None = None  # time.monotonic()

    def start(self, hand_over: Callable[[Batch], None]) -> None:
        """Begin to poll; `hand_over` is called on the consumer's thread."""
        self._hand_over = hand_over
        self.last_poll = time.monotonic()
        self._thread.start()

    def stored(self, batch: Batch) -> None:
        """The batch is committed to the database. Any thread."""
        self._stored.put(batch)

    def delay_s(self) -> float:
        """By how much what was read is behind what Kafka has; infinite while nobody knows.

        Any thread; some seconds old.
        """
        if self._unreachable_since is not None or self._lag is None:
            return self.unreachable_s() or math.inf
        return max(time.time() - self._read_until, 0.0) if self._lag else 0.0

    def unreachable_s(self) -> float:
        """For how long the group's coordinator has been away; 0 when it is there. Any thread."""
        since = self._unreachable_since
        return 0.0 if since is None else time.monotonic() - since

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
        while not self._stopping.is_set():
            consumer = self._connect()
            if consumer is None:
                return
            try:
                if self._poll_until_unusable(consumer):
                    self._let_in_flight_land(RENEWAL_S)
                else:
                    # Whatever is in flight may still be stored: commit it, then leave the group.
                    while not self._finished.wait(HELD_TIMEOUT_MS / 1000):
                        self._collect_stored(block=False)
                self._let_letters_land(LETTERS_S)
                self._commit(consumer, wait=True)
            finally:
                consumer.close(autocommit=False, timeout_ms=KAFKA_TIMEOUT_MS)

    def _poll_until_unusable(self, consumer: KafkaConsumer) -> bool:
        """False when told to stop; True when a new consumer has to go on."""
        while not self._stopping.is_set():
            if not self._turn(consumer):
                return True
        return False

    def _let_in_flight_land(self, seconds: float) -> None:
        """Less is read twice."""
        end = time.monotonic() + seconds
        while self._in_flight_records and time.monotonic() < end and not self._stopping.is_set():
            self._collect_stored(block=True)

    def _let_letters_land(self, seconds: float) -> None:
        """Fewer letters are written twice."""
        end = time.monotonic() + seconds
        self._collect_stored(block=False)
        while self._offsets.letters and time.monotonic() < end:
            time.sleep(0.02)
            self._collect_stored(block=False)

    def _connect(self) -> KafkaConsumer | None:
        """Try until there is a broker; None when told to stop before."""
        self.connected, told = False, -1
        while not self._stopping.is_set():
            try:
                with explained():
                    consumer = KafkaConsumer(**self._options())
                break
            except (KafkaError, OSError) as error:
                # Once, and again only when more is known: not every try hears why.
                if telling(str(error)) > told:
                    log.warning("no Kafka broker answers: %s; trying on", error)
                    told = telling(str(error))
                self.last_poll = time.monotonic()
                self._stopping.wait(RECONNECT_S)
        else:
            return None
        mend(consumer)
        listener = _Listener(consumer, self.stopped, self._revoked)
        consumer.subscribe(pattern=topic_pattern(self._settings), listener=listener)
        self.last_poll = time.monotonic()
        self.connected = True
        log.info("connected to Kafka, group %s", self._settings.kafka_group_id)
        return consumer

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        return {
            **connection_options(settings),
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

    def _turn(self, consumer: KafkaConsumer) -> bool:
        """One poll and what follows; False when this consumer cannot be used any more."""
        self._collect_stored(block=self._is_full())
        if self._is_full():
            # The group's heartbeat goes on; what a rebalance brings is taken all the same. A
            # poll() that does not wait never gets through a rebalance, and holds up the group.
            consumer.pause(*consumer.assignment())
            timeout_ms = HELD_TIMEOUT_MS
        else:
            timeout_ms = self._pause(consumer)
        usable = self._poll(consumer, timeout_ms)
        self._commit(consumer, wait=False)
        self._measure_lag(consumer)
        return usable

    def _poll(self, consumer: KafkaConsumer, timeout_ms: int) -> bool:
        begin = time.thread_time()
        try:
            polled = consumer.poll(timeout_ms=timeout_ms, max_records=self._room())
        except Exception as error:  # decompression alone raises whatever its library likes
            return self._recover(consumer, error)
        self._returned(consumer)
        if not polled and time.thread_time() - begin > SPIN_S:
            self._stopping.wait(REST_S)
        resume_join(consumer)
        if polled:
            self._offer(polled)
        return True

    def _recover(self, consumer: KafkaConsumer, error: Exception) -> bool:
        """After an error in poll() the same consumer would raise it for ever: build a new one.

        Unless it is moved past the bytes that cannot be read, after three tries.
        """
        self._returned(consumer)
        found = unreadable(error)
        if found is None:
            log.warning("Kafka's poll() failed, connecting anew: %r", error)
            self._stopping.wait(RECONNECT_S)
            return False
        place = found.partition
        if lacks_codec(error):
            self.stopped[place] = str(error)
            log.error("partition %s/%d stopped, install the codec and restart: %s", *place, error)
            return False
        offset = _position(consumer, place)
        if offset is None:
            return False
        self._tries[place, offset] += 1
        if self._tries[place, offset] < TRIES:
            log.warning("unreadable bytes in %s/%d at offset %d, trying again: %r",
                        *place, offset, error)  # fmt: skip
            return False
        end = consumer.highwater(place) or offset + 1
        behind = found.next_offset if found.next_offset is not None else offset + 1
        self._skip(consumer, place, offset, behind if offset < behind <= end else offset + 1)
        return True

    def _skip(self, consumer: KafkaConsumer, place: TopicPartition, first: int, end: int) -> None:
        log.error("skipped %d unreadable records in %s/%d: offsets %d to %d",
                  end - first, *place, first, end - 1)  # fmt: skip
        consumer.seek(place, end)
        self._tries.clear()
        batch = Batch(offsets={(place.topic, place.partition): end}, size=end - first)
        batch.outcomes["other", "skipped"] = end - first
        self._give(batch)

    def _pause(self, consumer: KafkaConsumer) -> int:
        """A partition waits while its dead letters cannot be kept, or while it is far ahead.

        How long the next poll() may wait, in milliseconds.
        """
        assigned = consumer.assignment()
        unkept = self._offsets.waiting() if self._dead_letters.failing_since else set()
        held = (unkept | self.stopped.keys()) & assigned
        ahead = self._alignment.ahead(assigned - held, consumer.highwater, time.monotonic())
        paused, waiting = consumer.paused(), held | ahead
        if waiting - paused:
            consumer.pause(*(waiting - paused))
        if paused - waiting:
            consumer.resume(*(paused - waiting))
        return HELD_TIMEOUT_MS if waiting else POLL_TIMEOUT_MS

    def _is_full(self) -> bool:
        return (
            self._in_flight_records + self._offsets.letters >= 2 * self._settings.batch_records
            or self._in_flight_bytes >= MAX_BYTES_IN_FLIGHT
        )

    def _room(self) -> int:
        """Records for one poll(): no batch is larger than a transaction."""
        return min(POLL_RECORDS, self._settings.batch_records)

    def _returned(self, consumer: KafkaConsumer) -> None:
        self.last_poll = time.monotonic()
        self._forget_revoked()
        self.assigned = len(consumer.assignment())
        self._metrics.last_poll.set_to_current_time()

    def _forget_revoked(self) -> None:
        """What was read of these before is not committed any more, now or once it is stored."""
        while not self._revoked.empty():
            places = self._revoked.get()
            self._offsets.revoked(places)
            self._alignment.forget(places)
            for place in places:
                self._to_commit.pop(place, None)
                with suppress(KeyError):  # not measured yet
                    self._metrics.lag.remove(place.topic, place.partition)

    def _offer(self, polled: dict[TopicPartition, list[Any]]) -> None:
        for place, records in polled.items():
            self._read_until = records[-1].timestamp / 1000
            self._alignment.read(place, records, time.monotonic())
        self._give(decoded(polled, self._settings))

    def _give(self, batch: Batch) -> None:
        batch.generations = {
            place: self._offsets.generation(TopicPartition(*place)) for place in batch.offsets
        }
        self._in_flight_records += batch.size
        self._in_flight_bytes += batch.bytes
        self._hand_over(batch)

    def _collect_stored(self, *, block: bool) -> None:
        """Take what ingest has stored; when blocking, wait up to a second for the first."""
        for batch in self._stored_batches(block):
            self._in_flight_records -= batch.size
            self._in_flight_bytes -= batch.bytes
            self._offsets.stored(batch)
            if batch.dead:
                self._dead_letters.put(batch.dead)
        self._offsets.acknowledged(self._dead_letters.acknowledged())
        self._metrics.dead_letters_waiting.set(self._offsets.letters)
        for place, offset in self._offsets.take().items():
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
                generations = {place: self._offsets.generation(place) for place in offsets}
                consumer.commit_async(offsets, callback=partial(self._committed, generations))
        except KafkaError as error:
            log.info("offsets not committed, the records may come again: %r", error)

    def _committed(
        self,
        generations: dict[TopicPartition, int],
        offsets: dict[TopicPartition, OffsetAndMetadata],
        response: object,
    ) -> None:
        """Called in poll() or in the next commit."""
        if not isinstance(response, Exception):
            self._commits_fail = False
            return
        # Normal while the group rebalances, or its coordinator moves. Said once.
        if not self._commits_fail:
            log.info("offsets not committed yet, trying on: %r", response)
        self._commits_fail = True
        self._forget_revoked()
        for place, offset in offsets.items():
            if generations[place] == self._offsets.generation(place):
                self._to_commit.setdefault(place, offset)  # unless there is a newer one

    def _measure_lag(self, consumer: KafkaConsumer) -> None:
        now = time.monotonic()
        if now < self._next_lag:
            return
        self._next_lag = now + LAG_INTERVAL_S
        # There is no public call for it.
        if not consumer._coordinator.coordinator_unknown():
            self._unreachable_since = None
        elif self._unreachable_since is None:
            self._unreachable_since = now
        assigned = consumer.assignment()
        topics = {place.topic for place in assigned}
        total, known = 0, 0
        self.partitions = sum(len(consumer.partitions_for_topic(t) or ()) for t in topics)
        for place in assigned:
            end = consumer.highwater(place)
            offset = None if end is None else _position(consumer, place)
            if offset is not None:
                self._metrics.lag.labels(place.topic, place.partition).set(end - offset)
                total += end - offset
                known += 1
        self._lag = total if assigned and known == len(assigned) else None


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called on kafka-python's IO thread: takes notes, and calls nothing that waits."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        stopped: dict[TopicPartition, str],
        revoked: queue.SimpleQueue[set[TopicPartition]],
    ) -> None:
        self._consumer = consumer
        self._stopped = stopped
        self._revoked = revoked

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._revoked.put(set(revoked))

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """What must not be read is paused before the first fetch."""
        held = self._stopped.keys() & set(assigned)
        if held:
            self._consumer.pause(*held)


def _position(consumer: KafkaConsumer, place: TopicPartition) -> int | None:
    """None while the partition's offset, or its coordinator, is not known."""
    try:
        offset: int | None = consumer.position(place, timeout_ms=KAFKA_TIMEOUT_MS)
    except KafkaError:
        return None
    return offset


def _nowhere(_: Batch) -> None:
    raise AssertionError("start() says where batches go")
