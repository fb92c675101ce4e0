"""Watches the whole run: no offset is committed before what lies below it is safe."""

import threading
from collections.abc import Mapping
from typing import Final

import psycopg2
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
        try:
            while not self._stopping.wait(LOOK_S):
                self._look(observer, letters)
        finally:
            observer.close()
            letters.close()

    def _look(self, observer: Observer, letters: Tail) -> None:
        committed = observer.committed(observer.places(self._topics))
        found = Found(rows.read(self._environ), letters.catch_up())
        self.looks += 1
        for record in self._expected.load.records:
            place = (f"{self._prefix}.{record.topic}", record.partition)
            if record.offset is None or record.offset >= committed.get(place, 0):
                continue
            if not found.has(record, self._prefix) and not self._expected.may_be_refused(record):
                self.lies.append(f"committed {committed[place]} in {place}, not stored: {record}")
