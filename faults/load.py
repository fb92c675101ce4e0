"""A declared load: who says what, when, in which form; and the ledger of what Kafka has taken."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from kafka import KafkaProducer
from kafka.errors import KafkaError
from msgspec import Struct, field

from faults import poison
from faults.trips import KINDS, Said, Trip, trips
from workers.kafka.patches import abandon

# Topics of one scenario, three partitions each: two services, and two single types.
TOPICS: Final = ("booking.events", "runner.events", "booking.accepted", "runner.location_update")
PARTITIONS: Final = 3
DUPLICATES: Final = 0.05
IGNORED: Final = ("booking.reviewed", "runner.online", "runner.offline")
# A broker that is away may have stored what it did not acknowledge: then it is there twice.
# A producer that has lost its way is replaced after so long.
PATIENCE_S: Final = 8.0
# Larger than the service fetches of a partition at once, smaller than a broker's limit.
LARGE_BYTES: Final = 500_000

EVENT, IGNORE, DEAD = "event", "ignored", "dead"


class Record(Struct):
    """One entry of the ledger. `offset` is None until Kafka has acknowledged it."""

    topic: str  # without the prefix
    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]
    fate: str
    type: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    offset: int | None = None


class Load:
    """Records in the order in which they will be sent. Made once, read by everybody."""

    def __init__(
        self,
        random: Random,
        events: int,
        *,
        poison_share: float = 0.02,
        copies: int = 0,
        padding: int = 0,
        corpus: bool = False,
        order: str = "",
        kinds: Sequence[Callable[[Trip], None]] = KINDS,
        reports: int = 40,
    ) -> None:
        self._random = random
        self._corpus = list(poison.corpus())
        start = datetime.now(UTC) - timedelta(hours=6)
        self.trips = list(trips(random, start, events, reports, tuple(kinds)))
        said = [(each.order, each) for _, trip in self.trips for each in trip.said]
        said += [(o + random.uniform(0, 60), s) for o, s in said if random.random() < DUPLICATES]
        said += [(o + random.uniform(0, 60), s) for o, s in list(said) for _ in range(copies)]
        self.records: list[Record] = []
        for each in ordered(said, order, random):
            _pad(each.data, padding, random)
            self.records.append(self._event(each))
            if random.random() < poison_share:
                self.records.append(self._dead(random.choice(self._corpus)))
            if random.random() < 0.02:
                self.records.append(self._ignored())
        for value in self._corpus if corpus else ():
            self.records.insert(random.randrange(len(self.records)), self._dead(value))

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Each once, as the reference model wants them."""
        once = {id(r.data): (r.type, r.data) for r in self.records if r.fate == EVENT}
        return list(once.values())

    def lose(self, topic: str, partition: int, first: int, last: int) -> None:
        """These offsets were damaged: nothing has to become of their records."""
        self.records = [
            r
            for r in self.records
            if (r.topic, r.partition) != (topic, partition) or not first <= (r.offset or 0) <= last
        ]

    def _event(self, said: Said) -> Record:
        form = self._random.choices(("structured", "binary", "bare"), (70, 15, 15))[0]
        service = f"{said.type.partition('.')[0]}.events"
        if form == "bare" and said.type in TOPICS:
            return self._record(said.type, json.dumps(said.data).encode(), EVENT, said)
        if form == "binary":
            headers = [("ce_id", self._id()), ("ce_type", said.type.encode())]
            return self._record(service, json.dumps(said.data).encode(), EVENT, said, headers)
        return self._record(service, self._envelope(said.type, said.data), EVENT, said)

    def _dead(self, value: bytes | None) -> Record:
        topic = self._random.choice(("booking.events", "runner.events"))
        return self._record(topic, value, DEAD, headers=[("trace", b"\x00\xff")])

    def _ignored(self) -> Record:
        type_ = self._random.choice(IGNORED)
        topic = f"{type_.partition('.')[0]}.events"
        return self._record(topic, self._envelope(type_, {"stars": 5}), IGNORE)

    def _record(
        self,
        topic: str,
        value: bytes | None,
        fate: str,
        said: Said | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> Record:
        type_, data = ("", {}) if said is None else (said.type, said.data)
        partition = self._random.randrange(PARTITIONS)
        return Record(topic, partition, self._id(), value, list(headers), fate, type_, data)

    def _envelope(self, type_: str, data: dict[str, Any]) -> bytes:
        head = {"id": self._id().decode(), "source": f"service-{type_.partition('.')[0]}"}
        return json.dumps({**head, "type": type_, "data": data}).encode()

    def _id(self) -> bytes:
        return str(UUID(int=self._random.getrandbits(128), version=4)).encode()


def ordered(said: list[tuple[float, Said]], order: str, random: Random) -> list[Said]:
    """As it is said, unless a scenario wants another order."""
    said.sort(key=lambda pair: pair[0])
    events = [each for _, each in said]
    match order:
        case "shuffled":
            random.shuffle(events)
        case "backwards":
            events.reverse()
        case "types":
            # One booking's acceptance comes last of all, another one's updates do.
            events.sort(key=lambda e: (e.type < "c") == (e.data.get("booking_id", "") < "8"))
    return events


def _pad(data: dict[str, Any], padding: int, random: Random) -> None:
    """Fields that nobody knows are ignored, however large they are."""
    if padding and "note" not in data:
        data["note"] = "x" * (padding if random.random() < 0.995 else LARGE_BYTES)


class Sender:
    """Sends records at a rate, whatever the service does, until Kafka has acknowledged each."""

    def __init__(self, brokers: str, prefix: str, records: Sequence[Record], rate: float) -> None:
        self._brokers = brokers
        self._prefix = prefix
        self._records = records
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self.sent = 0
        self.error: BaseException | None = None

    def start(self) -> "Sender":
        self._thread.start()
        return self

    def wait(self, timeout_s: float) -> None:
        """Until everything is acknowledged."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"{self._missing()} records not acknowledged"
        assert self.error is None, repr(self.error)

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _missing(self) -> int:
        return sum(record.offset is None for record in self._records)

    def _run(self) -> None:
        try:
            self._send_all()
            while self._missing() and not self._stopping.is_set():
                self._send_all()
        except BaseException as error:
            self.error = error

    def _send_all(self) -> None:
        """What is not acknowledged yet; a producer that lost its broker is thrown away."""
        try:
            producer = KafkaProducer(
                bootstrap_servers=self._brokers,
                bootstrap_timeout_ms=3_000,
                max_block_ms=10_000,
                delivery_timeout_ms=15_000,
                request_timeout_ms=5_000,
                linger_ms=5,
            )
        except KafkaError:
            self._stopping.wait(0.2)
            return
        try:
            self._send_with(producer)
        finally:
            abandon(producer)  # what it could not send, the next one does

    def _send_with(self, producer: KafkaProducer) -> None:
        begin, pending = time.monotonic(), deque[tuple[Record, Any, float]]()
        for number, record in enumerate([r for r in self._records if r.offset is None]):
            if self._stopping.wait(max(begin + number / self._rate - time.monotonic(), 0)):
                return
            try:
                future = self._start(producer, record)
            except KafkaError:
                break
            pending.append((record, future, time.monotonic()))
            self.sent += 1
            if not _collect(pending):
                return
        while pending and _collect(pending) and not self._stopping.wait(0.02):
            pass

    def _start(self, producer: KafkaProducer, record: Record) -> Any:
        return producer.send(
            f"{self._prefix}.{record.topic}",
            value=record.value,
            key=record.key,
            headers=record.headers,
            partition=record.partition,
        )


def _collect(pending: deque[tuple[Record, Any, float]]) -> bool:
    """Take acknowledged offsets; False if the oldest has waited too long for one."""
    while pending and pending[0][1].is_done:
        record, future, _ = pending.popleft()
        if future.succeeded():
            record.offset = future.value.offset
    return not pending or time.monotonic() - pending[0][2] < PATIENCE_S
