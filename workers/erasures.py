"""What was erased, kept in Kafka for as long as anybody may restore a backup from before.

`<prefix>.tracking.erasures` is compacted: the newest record of each key stays for ever. Records go
there from the outbox, with the events, so none is lost; `after_restore.py` reads them all.
"""

import json
import logging
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from kafka import KafkaProducer
from kafka.errors import KafkaError
from msgspec import Struct

from tracking.domain.erasure import runner_digest
from tracking.settings import KafkaSettings
from tracking.store.erasing import bookings, runners
from tracking.store.outbox.events import OutboxRow
from workers.kafka.whole_topic import records_of
from workers.relay.client import RelayError, compacted

log = logging.getLogger("tracking.outgoing")

TOPIC: Final = "tracking.erasures"
# Between two looks at what is wrong.
LOOK_S: Final = 60.0

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
    """Where the erasures of the outbox go. The thread that drains it calls.

    `remark`: what is wrong with it, for readiness. Any thread.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = settings.topic(TOPIC)
        self._is_there = False
        self._look_at = 0.0  # time.monotonic()
        self._said = ""
        self.remark = ""

    def look(self) -> None:
        """Made before it is needed: a restore tells by it whether it sees what was erased. What is
        wrong with it holds nothing up yet; it is looked at again until it is mended.
        """
        if time.monotonic() < self._look_at:
            return
        try:
            self._ensure()
        except KafkaError as error:
            self.remark = f"{error}: erasures, and what goes out behind them, will wait for it"
        self._look_at = time.monotonic() + LOOK_S if self.remark else math.inf
        if self.remark and self.remark != self._said:
            log.warning("%s", self.remark)
        self._said = self.remark

    def keep(self, producer: KafkaProducer, events: Sequence[OutboxRow], within_s: float) -> None:
        """Those of the events that are erasures, acknowledged; or KafkaError."""
        records = [record for event in events if (record := _record(event)) is not None]
        if not records:
            return
        if not self._is_there:
            self._ensure()
        futures = [producer.send(self._topic, key=key, value=value) for key, value in records]
        deadline = time.monotonic() + within_s
        for future in futures:
            future.get(timeout=max(deadline - time.monotonic(), 0.001))

    def _ensure(self) -> None:
        """A broker that makes topics by itself would delete old records of this one."""
        try:
            policy = compacted(self._settings, self._topic)
        except RelayError as error:
            raise KafkaError(f"{self._topic} cannot be made: {error}") from error
        self._is_there, self.remark = True, wrong_policy(self._topic, policy)


def wrong_policy(topic: str, policy: str | None) -> str:
    """What to do about it; empty if nothing is wrong, or nobody may know."""
    if policy in (None, "compact"):
        return ""
    return (
        f"{topic} has cleanup.policy={policy}: Kafka deletes erasures, and a restore would bring"
        f" back who was erased: kafka-configs.sh --alter --topic {topic} --add-config"
        " cleanup.policy=compact"
    )


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
    """All that the topic has.

    Raises what `records_of` does, and KafkaError where a record is none of ours.
    """
    found = []
    for record in records_of(settings, settings.topic(TOPIC)):
        if record.value is not None:
            try:
                found.append(_decode(record.value))
            except msgspec.DecodeError as error:
                place = f"{record.topic}/{record.partition}@{record.offset}"
                raise KafkaError(f"{place} is no erasure: {error}") from error
    return found


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
