"""What was erased, kept in Kafka for as long as anybody may restore a backup from before.

`<prefix>.tracking.erasures` is compacted: the newest record of each key stays for ever. Records go
there from the outbox, with the events, so none is lost; `after_restore.py` reads them all.
"""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from msgspec import Struct

from tracking.domain.erasure import runner_digest
from tracking.settings import KafkaSettings
from tracking.store.erasing import bookings, runners
from tracking.store.outbox.events import OutboxRow
from workers.kafka.clients import connection_options
from workers.relay.client import RelayError, ensure_compacted

TOPIC: Final = "tracking.erasures"
TIMEOUT_MS: Final = 10_000

BOOKING: Final = "tracking.erased"
RUNNER: Final = "tracking.runner_erased"


class ErasedBooking(Struct, frozen=True, tag="booking"):
    """`spans`: (SHA-256 of a runner's id, since, until), as `store.erasing` takes them."""

    booking_id: UUID
    erased_at: datetime
    spans: list[tuple[str, str, str]]


class ErasedRunner(Struct, frozen=True, tag="runner"):
    """What he reported before `until` is refused."""

    runner_sha256: str
    until: datetime


Erasure = ErasedBooking | ErasedRunner


class ErasureTopic:
    """Where the erasures of the outbox go. The thread that drains it calls."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.topic(TOPIC)
        self._is_there = False

    def keep(self, producer: KafkaProducer, events: Sequence[OutboxRow], within_s: float) -> None:
        """Those of the events that are erasures, acknowledged; or KafkaError."""
        records = [record for event in events if (record := _record(event)) is not None]
        if not records:
            return
        self._ensure()
        futures = [producer.send(self._topic, key=key, value=value) for key, value in records]
        deadline = time.monotonic() + within_s
        for future in futures:
            future.get(timeout=max(deadline - time.monotonic(), 0.001))

    def _ensure(self) -> None:
        """A broker that makes topics by itself would delete old records of this one."""
        if self._is_there:
            return
        try:
            ensure_compacted(self._settings, self._topic)
        except RelayError as error:
            raise KafkaError(f"{self._topic} cannot be made: {error}") from error
        self._is_there = True


def _record(event: OutboxRow) -> tuple[bytes, bytes] | None:
    if event.type == BOOKING:
        return str(event.booking_id).encode(), _value("booking", event.data)
    if event.type == RUNNER:
        key = f"runner {event.data['runner_sha256']}"
        return key.encode(), _value("runner", event.data)
    return None


def _value(kind: str, data: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, **data}).encode()


def told(events: Sequence[OutboxRow]) -> Iterator[OutboxRow]:
    """What other services get of these events: no digests, and nothing of runners."""
    for event in events:
        if event.type == BOOKING:
            data = {name: value for name, value in event.data.items() if name != "spans"}
            yield msgspec.structs.replace(event, data=data)
        elif event.type != RUNNER:
            yield event


def kept_erasures(settings: KafkaSettings) -> list[Erasure]:
    """All that the topic has; none where there is no such topic. KafkaError when Kafka is away."""
    consumer = KafkaConsumer(
        **connection_options(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=TIMEOUT_MS,
        allow_auto_create_topics=False,
    )
    try:
        topic = settings.topic(TOPIC)
        partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
        return list(_read(consumer, partitions)) if partitions else []
    finally:
        consumer.close(autocommit=False, timeout_ms=TIMEOUT_MS)


def _read(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> Iterator[Erasure]:
    """Up to where the partitions end now."""
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS)
    consumer.seek_to_beginning(*partitions)
    while any(consumer.position(p, timeout_ms=TIMEOUT_MS) < end for p, end in ends.items()):
        for records in consumer.poll(timeout_ms=1_000).values():
            for record in records:
                if record.value is not None:
                    yield _decode(record.value)


def apply_again(engine: sa.Engine, erasure: Erasure) -> None:
    """After a restore: what was erased since the backup goes once more. Idempotent."""
    if isinstance(erasure, ErasedBooking):
        bookings.erase_again(engine, erasure.booking_id, erasure.erased_at, erasure.spans)
        return
    digest = bytes.fromhex(erasure.runner_sha256)
    for runner_id in runners.begin_again(engine, digest, erasure.until):
        for each in runners.bookings_of_runner(engine, runner_id, erasure.until):
            runners.erase_from_booking(engine, runner_id, each.booking_id)
        runners.forget_parked(engine, runner_id, erasure.until)


class Erasures:
    """Of what is kept of them: which bytes are of somebody who was erased."""

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        self._bookings: set[UUID] = set()
        self._runners: dict[bytes, datetime] = {}
        for each in erasures:
            if isinstance(each, ErasedBooking):
                self._bookings.add(each.booking_id)
            else:
                self._runners[bytes.fromhex(each.runner_sha256)] = each.until

    def concern(self, text: bytes, written_at: datetime) -> bool:
        """Does it name an erased booking, or a runner who was erased later? It may be damaged."""
        for found in _UUID.findall(text):
            id_ = UUID(found.decode())
            if id_ in self._bookings:
                return True
            until = self._runners.get(runner_digest(id_))
            if until is not None and written_at < until:
                return True
        return False


_UUID: Final = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_decode = msgspec.json.Decoder(ErasedBooking | ErasedRunner).decode
