"""One scenario: database, topics, server, load, viewers; then the drain and the proof."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID, uuid4

from kafka.errors import KafkaError

from dev.private_server import free_port
from faults import oracle, rows, viewers
from faults.broker import Observer, Tail, create_topics, members
from faults.load import PARTITIONS, TOPICS, Load, Record, Sender
from faults.monitor import Monitor
from faults.oracle import Expected
from faults.server import SupervisedServer, Usage
from faults.trips import WATCHABLE
from faults.viewers import Viewer, Viewers
from faults.world import World
from tests.proxy import Proxy
from tests.running import fresh_database, wait_until

DRAIN_S: Final = 60.0
WATCHED: Final = 4
# Enough for every kind of trip; a long outage stretches them, as the reference model has to compute
# everything anew.
RATE: Final = 150.0
EVENTS: Final = 3_000
# A request that the database keeps waiting is answered within 2 s; the rest is the machine's.
ANSWER_S: Final = 2.5
# What a process may hold more than after its first events: caches fill, pools grow.
MORE: Final = Usage(threads=8, descriptors=16, resident_mib=64)


class Scenario:
    """What a test function plays with."""

    def __init__(self, world: World, environ: dict[str, str], log: Path, seed: str) -> None:
        self.world = world
        self.environ = environ  # straight to the servers; the service goes through the proxy
        self.log = log
        self.seed = seed
        self.random = Random(seed)
        self.prefix = environ["KAFKA_TOPIC_PREFIX"]
        self.topics = [f"{self.prefix}.{topic}" for topic in TOPICS]
        self._port = free_port()
        self.proxy = Proxy("127.0.0.1", world.postgres.port)
        self.stack = ExitStack()
        self.stack.callback(self.proxy.close)
        self.server: SupervisedServer
        self.expected: Expected
        self.sender: Sender
        self.monitor: Monitor | None = None
        self.viewers: Viewers | None = None
        self._before: Usage | None = None
        self._lost: set[oracle.Place] = set()

    def start_server(
        self,
        faults: Sequence[str] = (),
        *,
        restart: bool = True,
        ready: bool = True,
        **settings: str,
    ) -> SupervisedServer:
        """On the same port each time, so that viewers find it again."""
        environ = {
            **self.environ,
            "DB_PORT": str(self.proxy.port),
            "SERVICE_PORT": str(self._port),
            "DB_POOL_SIZE": "4",
            # A process that was killed gets its partitions back at once.
            "KAFKA_INSTANCE_ID": "only",
            **settings,
        }
        self.server = SupervisedServer(environ, self.log, faults, restart)
        self.stack.callback(self._stop_server, self.server)
        self.server.start()
        return self.server.wait_ready() if ready else self.server

    def another_server(self) -> SupervisedServer:
        """A second member of the group, on a port of its own."""
        own = {"SERVICE_PORT": str(free_port()), "KAFKA_INSTANCE_ID": ""}
        log = self.log.with_name("second.log")
        second = SupervisedServer({**self.server.environ, **own}, log, restart=False)
        self.stack.callback(self._stop_server, second)
        second.start()
        wait_until(lambda: second.asks("/health")[0] == 200, "healthy")
        return second

    def member(self) -> set[str]:
        """Who is in the group."""
        return members(self.environ["KAFKA_BROKERS"], self.environ["KAFKA_GROUP_ID"])

    def _stop_server(self, server: SupervisedServer) -> None:
        if server.process is not None and server.process.poll() is None:
            server.stop(9)

    def play(self, seconds: float, faults: Sequence[str] = (), **options: Any) -> None:
        """A server, and a load of so many seconds on it; returns when the load has begun."""
        load = self.declare(min(round(seconds * RATE), EVENTS), **options)
        self.start_server(faults)
        self.send(len(load.records) / seconds)
        self.watch()
        self.warm_up()

    def declare(self, events: int, **options: Any) -> Load:
        """What will be said, by the scenario's seed."""
        load = Load(self.random, events, **options)
        self.expected = Expected(load)
        return load

    def send(self, rate: float, records: Sequence[Record] | None = None) -> Sender:
        """Open loop, in the background; watched from the first record on."""
        records = self.expected.load.records if records is None else records
        self.sender = Sender(self.environ["KAFKA_BROKERS"], self.prefix, records, rate).start()
        self.stack.callback(self.sender.close)
        if self.monitor is None:
            self.monitor = Monitor(self.environ, self.expected, self.prefix, self.topics).start()
            self.stack.callback(self.monitor.stop)
        return self.sender

    def watch(self) -> None:
        """Viewers of trips whose marker only goes forward."""
        names = {kind.__name__ for kind in WATCHABLE}
        watched = [trip for name, trip in self.expected.load.trips if name in names][:WATCHED]
        made = [Viewer(self.server, t.booking_id, t.owner_id) for t in watched]
        self.viewers = Viewers(made).start()
        self.stack.callback(self.viewers.close)

    def warm_up(self, records: int = 100) -> None:
        """Until some events are stored: what the process holds then is what it may hold later."""
        wait_until(lambda: self.sender.sent >= records, "the first records", 30)
        wait_until(lambda: len(rows.read(self.environ).tracks) > 0, "the first track", 30)
        with suppress(FileNotFoundError, KeyError):  # killed just now: nothing to compare with
            self._before = self.server.usage()

    def stored(self) -> int:
        return rows.count(self.environ, "waypoints")

    def goes_on_within(self, seconds: float) -> None:
        """Waypoints are stored again."""
        before = self.stored()
        wait_until(lambda: self.stored() > before, "waypoints stored again", seconds)

    def an_owner_asks(self) -> int:
        """The status of a REST request, which has to come within two seconds; 0 if none comes."""
        name, trip = self.expected.load.trips[0]
        path = f"/api/v1/tracking/{trip.booking_id}"
        token = self.server.token(UUID(trip.owner_id), "owner")
        begin = time.monotonic()
        status, _ = self.server.asks(path, token)
        assert time.monotonic() - begin < ANSWER_S, f"{name}: no answer within {ANSWER_S} s"
        return status

    def lose(self, topic: str, partition: int, first: int, last: int) -> None:
        """Offsets that a bad disk took with it."""
        self.expected.load.lose(topic, partition, first, last)
        self.expected = Expected(self.expected.load)
        self._lost = {(f"{self.prefix}.{topic}", partition, n) for n in range(first, last + 1)}

    def lag(self) -> set[str]:
        """Partitions that are not committed to their end, as topic/partition."""
        observer = self._observer()
        try:
            places = observer.places(self.topics)
            committed, ends = observer.committed(places), observer.ends(places)
            return {f"{p.topic}/{p.partition}" for p in places if committed[p] < ends[p]}
        finally:
            observer.close()

    def read_again(self, last: int) -> int:
        """The group, which has no member now, begins anew before the last so many records.

        How many there are: of a partition that has few, less.
        """
        observer = self._observer()
        try:
            places = observer.places(self.topics)
            each = last // len(places)
            ends = observer.ends(places)
            observer.rewind({place: max(end - each, 0) for place, end in ends.items()})
            return sum(min(each, end) for end in ends.values())
        finally:
            observer.close()

    def connections(self) -> dict[Viewer, int]:
        """How many each viewer has made."""
        assert self.viewers is not None
        return {viewer: len(viewer.connections) for viewer in self.viewers.viewers}

    def mend(self) -> None:
        """What a fault broke works again."""
        self.world.mend()
        self.proxy.heal()

    def _observer(self) -> Observer:
        return Observer(self.environ["KAFKA_BROKERS"], self.environ["KAFKA_GROUP_ID"])

    def drain(self, within_s: float = DRAIN_S) -> None:
        """Everything is in Kafka, and its offsets are committed."""
        self.sender.wait(within_s + 60)
        observer = self._observer()
        try:
            wait_until(lambda: self._is_drained(observer), "all offsets committed", within_s)
        finally:
            observer.close()

    def _is_drained(self, observer: Observer) -> bool:
        try:
            places = observer.places(self.topics)
            return bool(places) and observer.committed(places) == observer.ends(places)
        except KafkaError:
            return False

    def prove(self, *, counters: bool | None = None, source_is_whole: bool = True) -> None:
        """The oracle. `counters`: no record was read twice; None: if the server never died."""
        self._prove_offsets()
        letters = self.read([f"{self.prefix}.dead-letter"])
        read = {(r.topic, r.partition, r.offset): r for r in self.read(self.topics)}
        source = {place: record for place, record in read.items() if place not in self._lost}
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
        due = sum(track.head_seq for track in tables.tracks.values())
        try:
            wait_until(
                lambda: (
                    sum(b"tracking.updated" in r.value for r in tail.catch_up()) >= due
                    and not rows.count(self.environ, "outbox")
                ),
                f"{due} positions sent out",
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
        if self._before is None or self.server.outages:
            return
        before, after = self._before, self.server.usage()
        grown = [a - b for a, b in zip(after, before, strict=True)]
        assert all(g <= m for g, m in zip(grown, MORE, strict=True)), f"{before} to {after}"


def pause(seconds: float) -> None:
    """How long a fault lasts. Not to wait for something: for that there is wait_until."""
    time.sleep(seconds)


@contextmanager
def scenario(world: World, log: Path, seed: str) -> Iterator[Scenario]:
    """In a new database, with new topics and a new group."""
    world.mend()
    with fresh_database(world.environ()) as own:
        prefix = f"faults-{uuid4().hex[:12]}"
        environ = {
            **own,
            "KAFKA_TOPIC_PREFIX": prefix,
            "KAFKA_GROUP_ID": prefix,
            "SERVICE_ADDRESS": "127.0.0.1",
            "PATH": os.environ["PATH"],
        }
        create_topics(own["KAFKA_BROKERS"], [f"{prefix}.{topic}" for topic in TOPICS], PARTITIONS)
        create_topics(
            own["KAFKA_BROKERS"],
            [f"{prefix}.{topic}" for topic in ("dead-letter", "tracking.events")],
            1,
        )
        played = Scenario(world, environ, log, seed)
        try:
            yield played
        finally:
            world.mend()
            played.stack.close()
