"""What the broker itself says: offsets, records, letters. Independent of the service."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

TIMEOUT_MS: Final = 5_000


@contextmanager
def administering(brokers: str) -> Iterator[Any]:
    """An admin client for the length of a block."""
    admin = KafkaAdminClient(bootstrap_servers=brokers, bootstrap_timeout_ms=20_000)
    try:
        yield admin
    finally:
        admin.close()


def create_topics(
    brokers: str, names: Iterable[str], partitions: int, configs: dict[str, str] | None = None
) -> None:
    with administering(brokers) as admin:
        admin.create_topics(
            [NewTopic(name, partitions, 1, topic_configs=configs or {}) for name in names]
        )


def replace_topic(
    brokers: str, name: str, partitions: int, configs: dict[str, str] | None = None
) -> None:
    """Delete it and make it anew; who writes to it may make it in between, with other settings."""
    for _ in range(10):
        delete_topics(brokers, [name])
        try:
            return create_topics(brokers, [name], partitions, configs)
        except TopicAlreadyExistsError:
            continue
    raise AssertionError(f"{name} is always there already")


def delete_topics(brokers: str, names: Iterable[str]) -> None:
    with administering(brokers) as admin:
        admin.delete_topics(list(names))


def members(brokers: str, group: str) -> set[str]:
    """The ids of a group's members: one that left and came back has another one."""
    with administering(brokers) as admin:
        described = admin.describe_groups([group])
    return {member["member_id"] for member in described[group]["members"]}


class Observer:
    """Reads offsets and topics without being a member of any group. One thread at a time."""

    def __init__(self, brokers: str, group: str) -> None:
        self._brokers = brokers
        self._consumer = KafkaConsumer(
            bootstrap_servers=brokers,
            group_id=group,
            enable_auto_commit=False,
            bootstrap_timeout_ms=20_000,
            metadata_max_age_ms=2_000,
        )

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    def places(self, topics: Iterable[str]) -> list[TopicPartition]:
        return [
            TopicPartition(topic, number)
            for topic in topics
            for number in self._consumer.partitions_for_topic(topic) or ()
        ]

    def committed(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {p: self._consumer.committed(p, timeout_ms=TIMEOUT_MS) or 0 for p in places}

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit for the group; the broker allows it while the group has no member."""
        wanted = {place: OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        self._consumer.assign(list(offsets))
        self._consumer.commit(wanted, timeout_ms=TIMEOUT_MS)

    def ends(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(self._consumer.end_offsets(places, timeout_ms=TIMEOUT_MS))


class Tail:
    """Everything in some topics from their beginning, as far as it has come. One thread."""

    def __init__(self, brokers: str, topics: list[str]) -> None:
        self._topics = topics
        self._consumer = KafkaConsumer(
            bootstrap_servers=brokers,
            auto_offset_reset="earliest",
            check_crcs=False,  # a scenario damages bytes; the oracle compares them itself
            group_id=None,
            bootstrap_timeout_ms=20_000,
            metadata_max_age_ms=1_000,
        )
        self.records: list[Any] = []

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    def catch_up(self) -> list[Any]:
        """All records that are there now, and those from before."""
        self._assign()
        while self._is_behind():
            for records in self._consumer.poll(timeout_ms=100, max_records=5_000).values():
                self.records += records
        return self.records

    def _assign(self) -> None:
        """Every partition that there is by now."""
        places = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in self._consumer.partitions_for_topic(topic) or ()
        ]
        if set(places) != self._consumer.assignment():
            self._consumer.assign(places)

    def _is_behind(self) -> bool:
        assigned = list(self._consumer.assignment())
        ends = self._consumer.end_offsets(assigned, timeout_ms=TIMEOUT_MS) if assigned else {}
        return any(
            (self._consumer.position(place, timeout_ms=TIMEOUT_MS) or 0) < end
            for place, end in ends.items()
        )
