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
from faults import rows
from faults.broker import Observer, create_topics, members
from faults.load import PARTITIONS, TOPICS, Load, Record, Sender
from faults.monitor import Monitor
from faults.oracle import Expected
from faults.proof import Proof
from faults.server import SupervisedServer
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


class Scenario(Proof):
    """What a test function plays with."""

    def __init__(self, world: World, environ: dict[str, str], log: Path, seed: str) -> None:
        # Straight to the servers; the service goes through the proxy.
        super().__init__(environ, log)
        self.world = world
        self.seed = seed
        self.random = Random(seed)
        self._port = free_port()
        self.proxy = Proxy("127.0.0.1", world.postgres.port)
        self.stack = ExitStack()
        self.stack.callback(self.proxy.close)
        self.sender: Sender

    def start_server(
        self,
        faults: Sequence[str] = (),
        *,
        restart: bool = True,
        ready: bool = True,
        role: str = "all",
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
        self.server = SupervisedServer(environ, self.log, faults, restart, role)
        self.stack.callback(self.stop_server, self.server)
        self.server.start()
        return self.server.wait_ready() if ready else self.server

    def another_server(self) -> SupervisedServer:
        """A second member of the group, on a port of its own."""
        own = {"SERVICE_PORT": str(free_port()), "KAFKA_INSTANCE_ID": ""}
        log = self.log.with_name("second.log")
        second = SupervisedServer({**self.server.environ, **own}, log, restart=False)
        self.stack.callback(self.stop_server, second)
        second.start()
        wait_until(lambda: second.asks("/health")[0] == 200, "healthy")
        return second

    def member(self) -> set[str]:
        """Who is in the group."""
        return members(self.environ["KAFKA_BROKERS"], self.environ["KAFKA_GROUP_ID"])

    def stop_server(self, server: SupervisedServer) -> None:
        """Whatever it does."""
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
            self.usage_before = self.server.usage()

    def stored(self) -> int:
        return rows.count(self.environ, "waypoints")

    def goes_on_within(self, seconds: float) -> None:
        """Waypoints are stored again; or all are, if the load ended meanwhile on a slow machine."""
        before = self.stored()

        def goes_on() -> bool:
            return self.stored() > before or (self.sender.is_done and not self.lag())

        wait_until(goes_on, "waypoints stored again", seconds)

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
        self.lost = {(f"{self.prefix}.{topic}", partition, n) for n in range(first, last + 1)}

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
        """Everything is in Kafka, its offsets are committed, and no process missed another's."""
        self.sender.wait(within_s + 60)
        observer = self._observer()
        try:
            wait_until(lambda: self._is_drained(observer), "all offsets committed", within_s)
        finally:
            observer.close()
        wait_until(lambda: not rows.missed(self.environ), "nothing waits for its trip", within_s)

    def _is_drained(self, observer: Observer) -> bool:
        try:
            # What one process has forwarded, and another has not stored yet, is not drained.
            places = observer.places([*self.topics, f"{self.prefix}.tracking.routed"])
            return bool(places) and observer.committed(places) == observer.ends(places)
        except KafkaError:
            return False


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
