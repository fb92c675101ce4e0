"""Watches the whole run: no offset is committed before what lies below it is safe."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import psycopg2
from kafka import TopicPartition
from kafka.errors import KafkaError

from faults import rows
from faults.broker import Observer, Tail
from faults.oracle import Expected, Found

LOOK_S: Final = 0.25


class Monitor:
    """A thread of its own. Offsets are read first, the tables and the letters after them."""

    def __init__(
        self, environ: Mapping[str, str], expected: Expected, prefix: str, topics: list[str]
    ) -> None:
        self._environ = environ
        self._expected = expected
        self._prefix = prefix
        self._topics = topics
        self._routed = f"{prefix}.tracking.routed"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self.looks = 0
        self.lies: list[str] = []
        self.error: BaseException | None = None

    def start(self) -> "Monitor":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._watch()
                except (KafkaError, psycopg2.Error, OSError):
                    self._stopping.wait(LOOK_S)  # what it asks is away just now
        except BaseException as error:
            self.error = error

    def _watch(self) -> None:
        """With clients of its own, made anew after an outage."""
        observer = Observer(self._environ["KAFKA_BROKERS"], self._environ["KAFKA_GROUP_ID"])
        letters = Tail(self._environ["KAFKA_BROKERS"], [f"{self._prefix}.dead-letter"])
        routed = Tail(self._environ["KAFKA_BROKERS"], [self._routed])
        try:
            while not self._stopping.wait(LOOK_S):
                self._look(observer, letters, routed)
        finally:
            observer.close()
            letters.close()
            routed.close()

    def _look(self, observer: Observer, letters: Tail, routed: Tail) -> None:
        committed = observer.committed(observer.places([*self._topics, self._routed]))
        found = Found(rows.read(self._environ), letters.catch_up())
        forwarded = _unread(routed.catch_up(), committed)
        self.looks += 1
        for record in self._expected.load.records:
            place = (f"{self._prefix}.{record.topic}", record.partition)
            if record.offset is None or record.offset >= committed.get(place, 0):
                continue
            if (*place, record.offset) in forwarded:
                continue
            if not found.has(record, self._prefix) and not self._expected.may_be_refused(record):
                self.lies.append(f"committed {committed[place]} in {place}, not stored: {record}")


def _unread(
    bundles: Iterable[Any], committed: Mapping[TopicPartition, int]
) -> set[tuple[str, int, int]]:
    """Where the platform wrote what Kafka keeps for another process: that is safe, too."""
    return {
        tuple(source)
        for bundle in bundles
        if bundle.offset >= committed.get(TopicPartition(bundle.topic, bundle.partition), 0)
        for source, *_ in msgspec.msgpack.decode(bundle.value)[1]
    }
