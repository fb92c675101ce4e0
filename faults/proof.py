"""What has to hold once a scenario has been drained: the oracle, asked about everything."""

from pathlib import Path
from typing import Any, Final

from faults import oracle, rows, viewers
from faults.broker import Tail
from faults.load import TOPICS
from faults.monitor import Monitor
from faults.oracle import Expected
from faults.server import SupervisedServer, Usage
from faults.viewers import Viewers
from tests.running import wait_until

# What a process may hold more than after its first events: caches fill, pools grow.
MORE: Final = Usage(threads=8, descriptors=16, resident_mib=64)


class Proof:
    """The part of a scenario that proves that nothing was lost."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        self.environ = environ
        self.log = log
        self.prefix = environ["KAFKA_TOPIC_PREFIX"]
        self.topics = [f"{self.prefix}.{topic}" for topic in TOPICS]
        self.server: SupervisedServer
        self.expected: Expected
        self.monitor: Monitor | None = None
        self.viewers: Viewers | None = None
        self.usage_before: Usage | None = None  # after the first events
        self.lost: set[oracle.Place] = set()  # offsets that a bad disk took

    def prove(self, *, counters: bool | None = None, source_is_whole: bool = True) -> None:
        """The oracle. `counters`: no record was read twice; None: if the server never died."""
        self._prove_offsets()
        letters = self.read([f"{self.prefix}.dead-letter"])
        read = {(r.topic, r.partition, r.offset): r for r in self.read(self.topics)}
        source = {place: record for place, record in read.items() if place not in self.lost}
        tables = rows.read(self.environ)
        found = oracle.Found(tables, letters)
        if source_is_whole:
            oracle.everything_sent_is_in_kafka(self.expected, source, self.prefix)
        oracle.every_event_has_an_outcome(self.expected, found, self.prefix)
        oracle.nothing_is_there_twice(tables)
        oracle.nothing_is_made_up(self.expected, tables)
        oracle.numbers_have_no_gap(tables)
        oracle.tracks_are_those_of_an_orderly_day(self.expected, tables)
        oracle.letters_are_whole(self.expected, source, letters)
        self._prove_outgoing(tables)
        if counters or (counters is None and source_is_whole and not self.server.outages):
            text = self.server.get("/metrics")[1].decode()
            oracle.counters_add_up(self.expected, source, text)
        self._prove_viewers()
        self._prove_process()
        for log in self.log.parent.glob("*.log"):
            assert "Traceback" not in log.read_text(), f"a traceback in {log}"

    def _prove_offsets(self) -> None:
        monitor = self.monitor
        assert monitor is not None
        monitor.stop()
        assert monitor.error is None, repr(monitor.error)
        assert monitor.looks > 0
        assert not monitor.lies, monitor.lies[:3]

    def read(self, topics: list[str]) -> list[Any]:
        """All records of some topics, a topic that is not there has none."""
        tail = Tail(self.environ["KAFKA_BROKERS"], topics)
        try:
            return list(tail.catch_up())
        finally:
            tail.close()

    def _prove_outgoing(self, tables: rows.Tables) -> None:
        tail = Tail(self.environ["KAFKA_BROKERS"], [f"{self.prefix}.tracking.events"])
        due = {
            (booking_id, seq)
            for booking_id, seqs in oracle.positions_due(tables).items()
            for seq in seqs
        }
        try:
            wait_until(
                lambda: (
                    due <= oracle.positions_sent(tail.catch_up())
                    and not rows.count(self.environ, "outbox")
                ),
                f"{len(due)} positions sent out",
            )
            oracle.outgoing_events_are_in_order(tables, tail.catch_up())
        finally:
            tail.close()

    def _prove_viewers(self) -> None:
        if self.viewers is None:
            return
        watching = self.viewers.viewers
        wait_until(lambda: self.viewers and self.viewers.connected() == len(watching), "all back")
        assert self.server.metric("tracking_subscribers") == len(watching)
        assert self.server.metric("tracking_rooms") == len(watching)
        for viewer in watching:
            assert viewer.frames, f"viewer of {viewer.booking_id} saw nothing"
            path = f"/api/v1/tracking/{viewer.booking_id}?since_seq=0"
            data = self.server.get(path, viewer.token)[1]["data"]
            viewers.saw_no_lie(viewer, data["waypoints"])

    def _prove_process(self) -> None:
        """Nothing leaked, if it is still the same process."""
        if self.usage_before is None or self.server.outages:
            return
        before, after = self.usage_before, self.server.usage()
        grown = [a - b for a, b in zip(after, before, strict=True)]
        assert all(g <= m for g, m in zip(grown, MORE, strict=True)), f"{before} to {after}"
