"""workers.relay.forwarding: what another process of the group stores goes there, whole."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.running import Trip, envelope, wait_until
from tracking.domain.events import LocationUpdate
from tracking.metrics import Metrics
from tracking.settings import IngestSettings
from workers.breaker import Breaker
from workers.kafka.batches import Batch
from workers.kafka.consumer import Consumer
from workers.kafka.dead_letter_sender import DeadLetterSender
from workers.kafka.dead_letter_topic import kept_dead_letters
from workers.kafka.forwarded import bundles_of, encoded
from workers.kafka.unread import oldest_unread_s

SHARDS = 4
PLATFORM = 2  # partitions


class Member:
    """A process of the group: its events are stored as soon as they are handed over."""

    def __init__(self, settings: IngestSettings) -> None:
        self.metrics, self.died = Metrics(), list[BaseException]()
        breaker = Breaker(self.metrics)
        self.sender = DeadLetterSender(settings, self.metrics, self.died.append)
        self.consumer = Consumer(settings, self.metrics, self.sender, breaker, self.died.append)
        self.bookings: list[UUID] = []
        self.updates: set[tuple[UUID, datetime]] = set()
        self.stores = True
        self.waiting: list[Batch] = []

    def store(self, batch: Batch) -> None:
        if not self.stores:
            self.waiting.append(batch)
            return
        self.bookings += [each.booking_id for each in batch.events if each.booking_id]
        self.updates |= {
            (each.booking_id, each.recorded_at)
            for each in batch.events
            if isinstance(each, LocationUpdate) and each.booking_id
        }
        self.consumer.stored(batch)

    def value(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"tracking_{name}_total") or 0.0


class Group:
    """Members that read topics of their own."""

    def __init__(self, environ: dict[str, str], **settings: str) -> None:
        own = {"KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}", "KAFKA_GROUP_ID": uuid4().hex}
        self.environ = {**environ, **own, "RELAY_PARTITIONS": str(SHARDS), **settings}
        self.settings = IngestSettings.from_environment(self.environ)
        self.topic = self.settings.topic("runner.events")
        self.routed = self.settings.topic("tracking.routed")
        self.producer = KafkaProducer(bootstrap_servers=environ["KAFKA_BROKERS"])
        self.make(self.topic, PLATFORM)

    def make(self, topic: str, partitions: int, **config: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.environ["KAFKA_BROKERS"])
        admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])
        admin.close()

    @contextmanager
    def member(self) -> Iterator[Member]:
        member = Member(self.settings)
        member.sender.start(member.consumer.acknowledged)
        member.consumer.start(member.store)
        try:
            yield member
        finally:
            member.consumer.stop()
            assert member.consumer.wait(15)
            member.sender.stop()
            assert member.sender.wait(10)
            assert member.died == []

    def settled(self, *members: Member) -> None:
        """Each has its share of both topics."""
        share = (PLATFORM + SHARDS) // len(members)
        wait_until(lambda: all(m.consumer.assigned == share for m in members), "shared out")

    def produce(self, trips: list[Trip], rounds: int) -> None:
        for second in range(rounds):
            for number, trip in enumerate(trips):
                value = json.dumps(envelope("runner.location_update", trip.update(second)))
                partition = (second + number) % PLATFORM
                self.producer.send(self.topic, value.encode(), partition=partition)
        self.producer.flush(timeout=60)

    def committed(self, topic: str) -> int:
        reader = KafkaConsumer(bootstrap_servers=self.environ["KAFKA_BROKERS"],
                               group_id=self.settings.kafka_group_id)  # fmt: skip
        try:
            places = [TopicPartition(topic, n) for n in reader.partitions_for_topic(topic) or ()]
            return sum(reader.committed(each, timeout_ms=5_000) or 0 for each in places)
        finally:
            reader.close(autocommit=False)

    def ends(self, topic: str) -> int:
        reader = KafkaConsumer(bootstrap_servers=self.environ["KAFKA_BROKERS"])
        try:
            places = [TopicPartition(topic, n) for n in reader.partitions_for_topic(topic) or ()]
            return sum(reader.end_offsets(places).values())
        finally:
            reader.close(autocommit=False)


@pytest.fixture
def group(environ: dict[str, str]) -> Iterator[Group]:
    made = Group(environ)
    yield made
    made.producer.close(timeout=5)


def test_each_booking_is_stored_by_one_process(group: Group) -> None:
    group.make(group.routed, SHARDS)
    trips = [Trip() for _ in range(24)]
    with ExitStack() as stack:
        one, two = (stack.enter_context(group.member()) for _ in range(2))
        group.settled(one, two)
        group.produce(trips, 50)
        wait_until(lambda: len(one.bookings) + len(two.bookings) == 24 * 50, "all are stored")
        assert set(one.bookings) | set(two.bookings) == {trip.booking_id for trip in trips}
        assert set(one.bookings) & set(two.bookings) == set()
        assert one.bookings
        assert two.bookings
        wait_until(lambda: group.committed(group.topic) == 24 * 50, "the platform's offsets")
        wait_until(
            lambda: group.committed(group.routed) == group.ends(group.routed) > 0, "and the others"
        )
        assert one.value("records_forwarded") + two.value("records_forwarded") == 24 * 25


def test_one_process_alone_makes_the_topic_and_keeps_everything(group: Group) -> None:
    with group.member() as one:
        group.settled(one)
        group.produce([Trip() for _ in range(10)], 10)
        wait_until(lambda: len(one.bookings) == 100, "all are stored")
        assert one.value("records_forwarded") == 0
        assert group.ends(group.routed) == 0


def test_what_kafka_does_not_take_is_stored_where_it_was_read(group: Group) -> None:
    group.make(group.routed, SHARDS, **{"max.message.bytes": "100"})
    with ExitStack() as stack:
        one, two = (stack.enter_context(group.member()) for _ in range(2))
        group.settled(one, two)
        group.produce([Trip() for _ in range(10)], 10)
        wait_until(lambda: len(one.bookings) + len(two.bookings) == 100, "all are stored")
        assert one.value("records_not_forwarded") + two.value("records_not_forwarded") > 0
        assert group.ends(group.routed) == 0
        wait_until(lambda: group.committed(group.topic) == 100, "and committed")


def test_what_nobody_has_stored_is_read_again_here_or_there(group: Group) -> None:
    """Of what is forwarded the copy counts: that is read again until it is stored."""
    group.make(group.routed, SHARDS)
    with ExitStack() as stack:
        one, two = (stack.enter_context(group.member()) for _ in range(2))
        group.settled(one, two)
        one.stores = two.stores = False
        group.produce([Trip() for _ in range(24)], 4)
        wait_until(lambda: group.ends(group.routed) > 0, "forwarded")
        wait_until(lambda: sum(b.size for m in (one, two) for b in m.waiting) == 96, "handed over")
        assert group.committed(group.topic) < 96
        assert group.committed(group.routed) == 0
        age = oldest_unread_s(group.settings)
        assert 0 < age < 60
    with group.member() as again:
        wait_until(lambda: len(again.updates) == 96, "all of them are read again")
        wait_until(lambda: group.committed(group.topic) == 96, "committed")


def test_a_dead_letter_says_where_the_platform_wrote_it(group: Group) -> None:
    group.make(group.routed, SHARDS)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    timestamp = int(long_ago.timestamp() * 1000)
    with ExitStack() as stack:
        one, two = (stack.enter_context(group.member()) for _ in range(2))
        group.settled(one, two)
        for _ in range(40):  # malformed, of bookings of either process
            data = {"booking_id": str(uuid4())}
            value = json.dumps(envelope("runner.location_update", data)).encode()
            group.producer.send(group.topic, value, key=b"its key", partition=1,
                                headers=[("trace", b"7")], timestamp_ms=timestamp)  # fmt: skip
        group.producer.flush(timeout=60)
        letters = wait_until(
            lambda: found if len(found := list(kept_dead_letters(group.settings))) == 40 else [],
            "40 dead letters",
        )
        wait_until(lambda: group.committed(group.topic) == 40, "passed")
        assert one.value("records_forwarded") + two.value("records_forwarded") > 0
    assert {letter.source for letter in letters} == {f"{group.topic}/1@{n}" for n in range(40)}
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["dead-letter-timestamp"] == str(timestamp).encode()
        assert (letter.key, headers["trace"]) == (b"its key", b"7")


def test_the_oldest_record_may_lie_behind_a_younger_one(group: Group) -> None:
    """Two processes have forwarded to the same partition; one of them is an hour behind."""
    group.make(group.routed, 1)
    now = int(datetime.now(UTC).timestamp() * 1000)
    for age_s in (1, 3600, 2):
        record = SimpleNamespace(topic=group.topic, partition=0, offset=0, key=None, value=b"{}",
                                 timestamp=now - age_s * 1000, headers=[])  # fmt: skip
        (bundle,) = bundles_of([record])
        group.producer.send(group.routed, encoded(bundle)).get(30)
    assert 3600 <= oldest_unread_s(group.settings) < 3700


def test_a_topic_that_is_gone_ends_no_process(group: Group) -> None:
    group.make(group.routed, SHARDS)
    trips = [Trip() for _ in range(10)]
    with ExitStack() as stack:
        one, two = (stack.enter_context(group.member()) for _ in range(2))
        group.settled(one, two)
        admin = KafkaAdminClient(bootstrap_servers=group.environ["KAFKA_BROKERS"])
        admin.delete_topics([group.routed])
        admin.close()
        group.produce(trips, 20)
        wait_until(lambda: len(one.updates | two.updates) == 200, "all are stored")
