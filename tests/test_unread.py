"""workers.kafka.unread: what the whole group has not stored yet."""

import math
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

from tracking.settings import KafkaSettings
from workers.kafka import unread
from workers.kafka.unread import oldest_unread_s

HOUR_MS = 3_600_000


class Group:
    """Topics and a group of one's own, and what would be committed for them."""

    def __init__(self, brokers: str) -> None:
        name = f"test-{uuid4().hex[:12]}"
        self.brokers, self.topic = brokers, f"{name}.runner.events"
        self.settings = KafkaSettings.from_environment(
            {"KAFKA_BROKERS": brokers, "KAFKA_TOPIC_PREFIX": name, "KAFKA_GROUP_ID": name}
        )
        admin = KafkaAdminClient(bootstrap_servers=brokers)
        admin.create_topics([NewTopic(self.topic, 2, 1)])
        admin.close()
        self.producer = KafkaProducer(bootstrap_servers=brokers)

    def produce(self, partition: int, age_ms: int = 0) -> None:
        at = round(time.time() * 1000) - age_ms
        future = self.producer.send(self.topic, b"{}", partition=partition, timestamp_ms=at)
        future.get(timeout=10)

    def commit(self, partition: int, offset: int) -> None:
        place = TopicPartition(self.topic, partition)
        consumer = KafkaConsumer(
            bootstrap_servers=self.brokers, group_id=self.settings.kafka_group_id,
            enable_auto_commit=False,
        )  # fmt: skip
        consumer.assign([place])
        consumer.commit({place: OffsetAndMetadata(offset, "", -1)})
        consumer.close(autocommit=False)


@pytest.fixture(scope="module")
def group(environ: dict[str, str]) -> Iterator[Group]:
    group = Group(environ["KAFKA_BROKERS"])
    yield group
    group.producer.close()


def test_the_oldest_of_all_partitions_counts_until_it_is_committed(group: Group) -> None:
    assert oldest_unread_s(group.settings) == 0  # the topic is there, and empty
    group.produce(0, age_ms=HOUR_MS)
    group.produce(0)
    group.produce(1)
    assert oldest_unread_s(group.settings) == pytest.approx(3600, abs=60)
    group.commit(0, 1)
    assert 0 < oldest_unread_s(group.settings) < 60
    group.commit(0, 2)
    assert 0 < oldest_unread_s(group.settings) < 60
    group.commit(1, 1)
    assert oldest_unread_s(group.settings) == 0


def test_nobody_knows_what_lies_behind_an_open_transaction(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(environ["KAFKA_BROKERS"])
    producer = KafkaProducer(
        bootstrap_servers=group.brokers, transactional_id=f"test-{uuid4().hex[:12]}"
    )
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(group.topic, b"{}", partition=0).get(timeout=10)
    with monkeypatch.context() as patched:
        patched.setattr(unread, "TIMEOUT_MS", 3_000)
        assert oldest_unread_s(group.settings) == math.inf
    producer.abort_transaction()
    # Never happened; the control record that says so is nothing unread.
    assert oldest_unread_s(group.settings) == 0
    producer.close()
    group.producer.close()
