"""workers.kafka.consumer with a real Kafka: a group that changes, large records, full memory."""

import json
import time
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

from tests.consuming import MIB, Group
from tests.running import envelope, wait_until
from workers.kafka import consumer as consumer_module
from workers.kafka.alignment import BACKLOG
from workers.kafka.connection import PARTITION_FETCH_BYTES
from workers.kafka.flow_control import POLL_RECORDS

# Of each partition of a backlog.
RECORDS = 4_000


def assigned(other: KafkaConsumer) -> bool:
    other.poll(timeout_ms=100)
    return bool(other.assignment())


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every offset that is sent to the coordinator, in order."""
    sent: list[int] = []
    commit_async = KafkaConsumer.commit_async

    def recorded(self: Any, offsets: dict[Any, OffsetAndMetadata], callback: Any) -> Any:
        sent.extend(each.offset for each in offsets.values())
        return commit_async(self, offsets, callback)

    monkeypatch.setattr(KafkaConsumer, "commit_async", recorded)
    return sent


def test_a_few_live_records_are_stored_before_the_next_ones_are_asked_for(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[str] = []
    poll = KafkaConsumer.poll

    def noted(self: KafkaConsumer, **options: Any) -> Any:
        polls.append("asked")
        polled = poll(self, **options)
        if polled:
            polls.append("got")
        return polled

    monkeypatch.setattr(KafkaConsumer, "poll", noted)
    monkeypatch.setattr(consumer_module, "FEW_S", 60.0)
    group = Group(environ)
    with group.consuming() as consumer:
        group.produce(1)
        wait_until(lambda: group.records == 1, "given")
        group.produce(1)
        assert polls[-1] == "got"
        consumer.stored(group.batches[0])
        wait_until(lambda: group.records == 2, "the next one")
        consumer.stored(group.batches[1])


def test_what_was_in_flight_never_takes_a_partition_back(
    environ: dict[str, str], commits: list[int]
) -> None:
    group = Group(environ)
    group.produce(3)
    with group.consuming() as consumer:
        wait_until(lambda: group.records == 3, "three records read")
        old = list(group.batches)
        group.batches.clear()
        with group.other_member() as other:
            wait_until(lambda: assigned(other), "the other member has the partition")
            group.produce(5)
            other.commit({group.partition: OffsetAndMetadata(6, "", -1)})
        # kafka-python now and then reads on from where it was itself: that is once more, not less.
        wait_until(lambda: group.records >= 2, "it is ours again, from where the other was")
        wait_until(lambda: set(group.batches[-1].offsets.values()) == {8}, "all is read")
        for batch in old:
            consumer.stored(batch)
        seen = consumer.last_poll
        wait_until(lambda: consumer.last_poll > seen + 1, "time to commit it")
        for batch in group.batches:
            consumer.stored(batch)
        wait_until(lambda: group.offset() == 8, "committed to the end")
    assert commits == sorted(commits)
    assert min(commits) > 6


def test_nothing_is_committed_for_a_partition_of_another_member(
    environ: dict[str, str], commits: list[int]
) -> None:
    group = Group(environ)
    group.produce(3)
    with group.consuming() as consumer:
        wait_until(lambda: group.records == 3, "three records read")
        with group.other_member() as other:
            wait_until(lambda: assigned(other), "the other member has the partition")
            for batch in group.batches:
                consumer.stored(batch)
            wait_until(lambda: consumer._in_flight.records == 0, "noted as stored")
            seen = consumer.last_poll
            wait_until(lambda: consumer.last_poll > seen + 1, "and time to commit it")
            assert (commits, group.offset()) == ([], 0)
    assert commits == []


def test_a_member_that_is_full_lets_others_join(environ: dict[str, str]) -> None:
    """While the database is away nothing is read, and the group goes on."""
    group = Group(environ, BATCH_RECORDS="1")
    group.produce(5)
    with group.consuming():
        wait_until(lambda: group.records == 2, "two batches in flight")
        with group.other_member() as other:
            wait_until(lambda: assigned(other), "the other member has the partition", 15)
        assert [batch.size for batch in group.batches] == [1, 1]


def test_record_batches_larger_than_a_fetch_are_read(environ: dict[str, str]) -> None:
    """5 MB wait at the start, in batches of nearly a megabyte, and a record of one."""
    group = Group(environ)
    producer = KafkaProducer(bootstrap_servers=group.brokers, batch_size=900 << 10, linger_ms=2_000)
    value = json.dumps(envelope("runner.location_update", group.trip.update(0))).encode()
    number = 5_000_000 // len(value)
    for _ in range(number):
        producer.send(group.topic, value=value)
    producer.flush(timeout=60)
    producer.close(timeout=5)
    group.produce(1, padding=MIB - 1_000)
    assert PARTITION_FETCH_BYTES < 900 << 10
    with group.consuming() as consumer:
        stored = 0
        while stored <= number:
            wait_until(lambda: bool(group.batches), "more records")
            batch = group.batches.pop(0)
            stored += batch.size
            assert batch.outcomes.total() == 0
            consumer.stored(batch)
        wait_until(lambda: group.offset() == number + 1, "all committed")


def test_a_bug_in_decoding_stops_the_intake_and_loses_nothing(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a bad deploy: nothing becomes a dead letter, no offset is committed."""

    def decode(*_: Any) -> None:
        raise TypeError("our bug")

    monkeypatch.setattr("workers.kafka.decoding.decode", decode)
    group = Group(environ)
    group.produce(10)
    with group.consuming() as consumer:
        wait_until(lambda: group.breaker.reason is not None, "stopped")
        assert "runner.location_update in a row failed at decode" in (group.breaker.reason or "")
        seen = consumer.last_poll
        wait_until(lambda: consumer.last_poll > seen + 1, "the member stays in its group")
        wait_until(lambda: consumer.lag.delay_s() > 0, "and tells that it is behind")
        labels = {"topic": group.topic, "partition": "0"}
        lag = group.metrics.registry.get_sample_value("tracking_consumer_lag_records", labels)
        assert (lag, group.offset(), group.batches) == (10, 0, [])
        assert consumer._in_flight.dead_letters == 0


def test_a_backlog_of_two_partitions_is_given_once_and_in_the_order_of_kafkas_time(
    environ: dict[str, str],
) -> None:
    group = Group(environ, partitions=2)
    now = time.time_ns() // 1_000_000
    group.produce_at(0, range(now - 6_000, now - 6_000 + RECORDS))
    group.produce_at(1, range(now - 6_000 + 1_500, now - 6_000 + 1_500 + RECORDS))
    with group.consuming():
        wait_until(lambda: group.records == 2 * RECORDS, "everything read")
    given = [
        [(r.partition, r.offset, r.timestamp) for r in batch.records] for batch in group.batches
    ]
    for partition in (0, 1):
        offsets = [o for batch in given for p, o, _ in batch if p == partition]
        assert offsets == list(range(RECORDS))
    # Once both were read, none overtakes, as long as there is a backlog of both.
    both = next(
        n for n in range(len(given)) if {p for b in given[: n + 1] for p, *_ in b} == {0, 1}
    )
    for number in range(both, len(given) - 2):
        first = [t for batch in given[: number + 2] for p, _, t in batch if p == 0]
        if len(first) < RECORDS - BACKLOG - POLL_RECORDS:
            second = [t for p, _, t in given[number] if p == 1]
            assert max(second, default=0) <= max(first)
