"""Whole processes against a group and a broker that change: members come and go, a broker hangs."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition

from dev.private_kafka import PrivateKafka
from tests.proxy import Proxy
from tests.running import Platform, Server, Trip, connect, fresh_database, wait_until

MIB = 1 << 20


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    with fresh_database(environ) as own:
        yield {
            **own,
            "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
            "KAFKA_GROUP_ID": f"test-{uuid4().hex[:12]}",
            "SERVICE_PORT": "0",
            "SERVICE_ADDRESS": "127.0.0.1",
        }


@pytest.fixture(scope="module")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateKafka]:
    with PrivateKafka(tmp_path_factory.mktemp("group") / "kafka") as kafka:
        yield kafka


@pytest.fixture
def kafka(shared_kafka: PrivateKafka) -> PrivateKafka:
    """A running broker that may be stopped."""
    shared_kafka.start()
    return shared_kafka


class Offsets:
    """What the group commits, looked at all the time."""

    def __init__(self, own: dict[str, str]) -> None:
        self._topic = f"{own['KAFKA_TOPIC_PREFIX']}.runner.events"
        self._consumer = KafkaConsumer(
            bootstrap_servers=own["KAFKA_BROKERS"], group_id=own["KAFKA_GROUP_ID"]
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: dict[TopicPartition, list[int]] = {}
        self.ends: dict[TopicPartition, int] = {}

    def __enter__(self) -> "Offsets":
        numbers = self._consumer.partitions_for_topic(self._topic)
        self.seen = {TopicPartition(self._topic, number): [] for number in numbers or ()}
        assert self.seen
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close(autocommit=False)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.ends = self._consumer.end_offsets(list(self.seen))
            for place, offsets in self.seen.items():
                offsets.append(self._consumer.committed(place, timeout_ms=5_000) or 0)

    def all_committed(self) -> bool:
        return all(offsets and offsets[-1] == self.ends[p] for p, offsets in self.seen.items())


@contextmanager
def steady_load(platform: Platform, trips: list[Trip]) -> Iterator[list[int]]:
    """One waypoint after the other until the end; how many there were."""
    stop, sent = threading.Event(), [0]

    def produce() -> None:
        while not stop.wait(0.002):
            trip = trips[sent[0] % len(trips)]
            platform.update(trip, sent[0] // len(trips))
            sent[0] += 1

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def test_members_that_join_and_leave_lose_nothing_and_take_nothing_back(
    own: dict[str, str], tmp_path: Path
) -> None:
    first, second = Server(own, tmp_path / "first"), Server(own, tmp_path / "second")
    platform = Platform(own["KAFKA_BROKERS"], own["KAFKA_TOPIC_PREFIX"])
    trips = [Trip() for _ in range(5)]
    try:
        first.start().wait_ready()
        for trip in trips:
            platform.accept(trip)
            platform.update(trip, -1)
        with Offsets(own) as offsets, steady_load(platform, trips) as sent:
            for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
                second.start()
                wait_until(lambda: stored_by(second) > 20, "the second stores its share")
                second.stop(how)
                wait_until_more(first)
            wait_until(lambda: sent[0] > 500, "enough of it")
        with Offsets(own) as finally_, closing(connect(own)) as connection:
            wait_until(finally_.all_committed, "everything committed")
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*), count(DISTINCT (track_id, seq)) FROM waypoints")
                assert cursor.fetchone() == (sent[0] + 5, sent[0] + 5)
        for seen in offsets.seen.values():
            assert seen == sorted(seen)
        assert first.stop() == 0
    finally:
        first.stop(signal.SIGKILL)
        second.stop(signal.SIGKILL)
        platform.close()
    for log in ("first", "second"):
        assert tracebacks(tmp_path / log) == []


def test_a_static_member_killed_before_there_were_topics_reads_them_when_it_is_back(
    own: dict[str, str], tmp_path: Path
) -> None:
    """Within its session, so that the group still has it, and what it had: nothing."""
    server = Server({**own, "KAFKA_INSTANCE_ID": "only"}, tmp_path / "log")
    platform = Platform(own["KAFKA_BROKERS"], own["KAFKA_TOPIC_PREFIX"])
    trip = Trip()
    try:
        server.start().wait_ready()
        server.stop(signal.SIGKILL)
        platform.accept(trip)
        platform.update(trip, 0)
        server.start().wait_ready()
        wait_until(lambda: stored_by(server) == 1, "stored")
        assert server.stop() == 0
    finally:
        server.stop(signal.SIGKILL)
        platform.close()
    assert tracebacks(tmp_path / "log") == []


def stored_by(server: Server) -> float:
    return server.metric("tracking_waypoints_stored_total")


def wait_until_more(server: Server) -> None:
    before = stored_by(server)
    wait_until(lambda: stored_by(server) > before + 20, "it goes on")


def tracebacks(log: Path) -> list[str]:
    """Of ours; kafka-python writes one into its line about a connection that was reset."""
    lines = log.read_text().splitlines()
    return [line for line in lines if "Traceback" in line and " kafka.net." not in line]


def test_memory_stays_flat_while_the_database_is_away(own: dict[str, str], tmp_path: Path) -> None:
    proxy = Proxy(own["DB_HOST"], int(own["DB_PORT"]))
    server = Server({**own, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}, tmp_path / "log")
    platform = Platform(own["KAFKA_BROKERS"], own["KAFKA_TOPIC_PREFIX"])
    trip = Trip()

    def memory() -> float:
        return server.metric("process_resident_memory_bytes")

    def produce(first: int, number: int) -> None:
        """Records of nearly a megabyte each; only the padding is ignored."""
        for second in range(first, first + number):
            platform.update(trip, second, padding="x" * (MIB - 2_000))

    try:
        server.start().wait_ready()
        platform.accept(trip)
        produce(0, 1)
        wait_until(lambda: stored_by(server) == 1, "the first waypoint")
        before = memory()
        proxy.hang()
        produce(1, 60)
        wait_until(lambda: memory() > before + 25 * MIB, "what is in flight")
        settled = wait_for_rest(memory)
        produce(61, 60)
        assert wait_for_rest(memory) < settled + 16 * MIB
        assert settled < before + 160 * MIB
        proxy.heal()
        wait_until(lambda: stored_by(server) == 121, "everything stored")
        assert server.stop() == 0
    finally:
        server.stop(signal.SIGKILL)
        platform.close()
        proxy.close()


def wait_for_rest(value: object) -> float:
    """Its greatest value once that has not grown for two seconds."""
    greatest, since = 0.0, time.monotonic()

    def rests() -> bool:
        nonlocal greatest, since
        now = value()  # type: ignore[operator]
        if now > greatest + MIB:
            greatest, since = now, time.monotonic()
        return time.monotonic() - since > 2

    wait_until(rests, "it rests")
    return greatest


@pytest.mark.parametrize("fault", ["pause", "kill"])
def test_a_server_stops_in_time_though_its_broker_is_dead(
    own: dict[str, str], kafka: PrivateKafka, tmp_path: Path, fault: str
) -> None:
    server = Server({**own, "KAFKA_BROKERS": kafka.brokers}, tmp_path / "log")
    platform = Platform(kafka.brokers, own["KAFKA_TOPIC_PREFIX"])
    trip = Trip()
    try:
        server.start()
        platform.accept(trip)
        platform.update(trip, 0)
        platform.send_raw("runner.events", b"malformed")
        wait_until(lambda: stored_by(server) == 1, "stored")
        platform.close()  # kafka-python leaves sockets behind when it finds no broker
        getattr(kafka, fault)()
        # Something to commit, to send and to write that never goes out.
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 20
    finally:
        server.stop(signal.SIGKILL)
        kafka.resume()
    assert tracebacks(tmp_path / "log") == []


def test_a_server_goes_on_when_its_broker_is_back(
    own: dict[str, str], kafka: PrivateKafka, tmp_path: Path
) -> None:
    """Away for longer than a session, so that the group has forgotten it."""
    server = Server({**own, "KAFKA_BROKERS": kafka.brokers}, tmp_path / "log")
    platform = Platform(kafka.brokers, own["KAFKA_TOPIC_PREFIX"])
    trip = Trip()
    try:
        server.start()
        platform.accept(trip)
        platform.update(trip, 0)
        wait_until(lambda: stored_by(server) == 1, "stored")
        platform.close()
        kafka.kill()
        spent = server.metric("process_cpu_seconds_total")
        away = time.monotonic() + 15
        wait_until(lambda: time.monotonic() > away, "a session and more")
        assert server.metric("process_cpu_seconds_total") - spent < 15 * 0.2
        assert server.get("/health")[0] == 200
        kafka.start()
        platform = Platform(kafka.brokers, own["KAFKA_TOPIC_PREFIX"])
        platform.update(trip, 1)
        wait_until(lambda: stored_by(server) == 2, "goes on")
        assert server.stop() == 0
    finally:
        server.stop(signal.SIGKILL)
        platform.close()
    assert tracebacks(tmp_path / "log") == []
