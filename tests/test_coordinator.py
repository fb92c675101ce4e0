"""workers.kafka.coordinator: static members that come back to a real group, which has changed."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewPartitions, NewTopic

from tests.running import wait_until
from workers.kafka.patches import has_joined, patch, resume_join

# Some metadata updates and heartbeats, with which each rebalance of a loop would begin.
QUIET_S = 3.0


class Member:
    """Static, hence it stays in the group when it ends. Polls as our consumer does."""

    def __init__(self, consumer: KafkaConsumer, poll_ms: int, pause_s: float) -> None:
        self._consumer = consumer
        self._poll_ms = poll_ms
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.has: set[TopicPartition] = set()
        self.generation = -1
        self._thread.start()

    def _poll(self) -> None:
        while not self._stop.wait(self._pause_s):
            self._consumer.poll(timeout_ms=self._poll_ms)
            resume_join(self._consumer)
            if has_joined(self._consumer):
                self.has = self._consumer.assignment()
                self.generation = self._consumer._coordinator._generation.generation_id

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close(autocommit=False)


class Group:
    """Static members, and the topic that they read."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._topic = f"test-{uuid4().hex[:12]}"
        self._admin = KafkaAdminClient(bootstrap_servers=brokers)

    def close(self) -> None:
        self._admin.close()

    def create_topic(self, partitions: int) -> None:
        self._admin.create_topics([NewTopic(self._topic, partitions, 1)])

    def grow(self, partitions: int) -> None:
        self._admin.create_partitions({self._topic: NewPartitions(partitions)})

    @contextmanager
    def member(self, name: str, poll_ms: int = 500, pause_s: float = 0.0) -> Iterator[Member]:
        consumer = KafkaConsumer(
            bootstrap_servers=self._brokers, group_id=self._topic, group_instance_id=name,
            metadata_max_age_ms=500, heartbeat_interval_ms=500, session_timeout_ms=30_000,
            enable_auto_commit=False, allow_auto_create_topics=False,
        )  # fmt: skip
        patch(consumer)
        consumer.subscribe(pattern=f"^{self._topic}$")
        member = Member(consumer, poll_ms, pause_s)
        try:
            yield member
        finally:
            member.close()


@pytest.fixture
def group(environ: dict[str, str]) -> Iterator[Group]:
    group = Group(environ["KAFKA_BROKERS"])
    yield group
    group.close()


def wait_until_they_have(partitions: int, *members: Member) -> int:
    """Each its share, of one generation, which it returns."""

    def have_all() -> bool:
        held = [place for member in members for place in member.has]
        return (
            len(held) == len(set(held)) == partitions
            and all(member.has for member in members)
            and len({member.generation for member in members}) == 1
        )

    wait_until(have_all, f"{partitions} partitions assigned")
    return members[0].generation


def test_a_member_that_comes_back_gets_the_topic_that_was_made_meanwhile(group: Group) -> None:
    with group.member("only") as member:
        wait_until(lambda: member.generation > 0, "joined")
    group.create_topic(3)
    with group.member("only") as member:
        wait_until_they_have(3, member)


def test_a_member_that_comes_back_gets_the_partitions_that_were_made_meanwhile(
    group: Group,
) -> None:
    group.create_topic(2)
    with group.member("only") as member:
        wait_until_they_have(2, member)
    group.grow(5)
    with group.member("only") as member:
        wait_until_they_have(5, member)


def test_a_member_that_has_come_back_gets_the_partitions_that_are_made_later(group: Group) -> None:
    """It leads, though it is not told."""
    group.create_topic(2)
    with group.member("only") as member:
        before = wait_until_they_have(2, member)
    with group.member("only") as member:
        assert wait_until_they_have(2, member) == before  # nothing overlooked: no rebalance
        group.grow(5)
        wait_until_they_have(5, member)


def test_each_member_that_comes_back_costs_one_rebalance_at_most(group: Group) -> None:
    """The leader, and who only follows; they have all there is."""
    group.create_topic(6)
    names = ["b", "a", "b-c"]
    with ExitStack() as stack:
        exits = {name: stack.enter_context(ExitStack()) for name in names}
        members: dict[str, Member] = {}
        for name in names:
            members[name] = exits[name].enter_context(group.member(name))
            generation = wait_until_they_have(6, *members.values())
        for name in names:
            exits[name].close()
            members[name] = exits[name].enter_context(group.member(name))
            wait_until_they_have(6, *members.values())
            threading.Event().wait(QUIET_S)
            after = wait_until_they_have(6, *members.values())
            assert after - generation <= 1
            generation = after


def test_a_group_settles_though_joins_end_between_two_polls(group: Group) -> None:
    """As they do while so much is in flight that polls are short and far between."""
    group.create_topic(6)
    with ExitStack() as stack:
        members = [
            stack.enter_context(group.member(name, poll_ms=10, pause_s=0.3)) for name in "abc"
        ]
        generation = wait_until_they_have(6, *members)
        threading.Event().wait(QUIET_S)
        assert wait_until_they_have(6, *members) == generation
