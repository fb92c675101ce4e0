"""workers.kafka.lag: how far behind we are, in seconds, of several partitions."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from tracking.metrics import Metrics
from workers.kafka import lag
from workers.kafka.lag import Lag

FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)


class Consumer:
    """What Lag asks a KafkaConsumer, with the answers of a moment that lasts."""

    def __init__(self, ends: dict[TopicPartition, int]) -> None:
        self.ends = ends
        self.positions = dict.fromkeys(ends, 0)
        self.stable: dict[TopicPartition, int] = {}

    def assignment(self) -> set[TopicPartition]:
        return set(self.ends)

    def subscription(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0, 1}

    def highwater(self, partition: TopicPartition) -> int:
        return self.ends[partition]


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    monkeypatch.setattr(lag, "MEASURE_INTERVAL_S", 0.0)
    monkeypatch.setattr(lag, "knows_coordinator", lambda _: True)
    monkeypatch.setattr(lag, "next_offset", lambda each, partition: each.positions[partition])
    monkeypatch.setattr(
        lag, "last_stable_offset", lambda each, partition: each.stable.get(partition)
    )
    return Consumer({FIRST: 100, SECOND: 100})


def read(
    measured: Lag, consumer: Consumer, partition: TopicPartition, end: int, age_s: float
) -> None:
    """The last record is so old."""
    record = SimpleNamespace(offset=end - 1, timestamp=(time.time() - age_s) * 1000)
    consumer.positions[partition] = end
    measured.polled(any_of(consumer), {partition: [record]})


def any_of(consumer: Consumer) -> Any:
    return consumer


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_the_delay_is_that_of_the_partition_that_is_furthest_behind(
    consumer: Consumer, order: tuple[TopicPartition, TopicPartition]
) -> None:
    measured = Lag(Metrics())
    for partition in order:
        behind = partition == FIRST
        read(measured, consumer, partition, 50 if behind else 99, 3_600 if behind else 0)
        measured.measure(any_of(consumer), ())
    measured.measure(any_of(consumer), ())
    assert measured.delay_s() == pytest.approx(3_600, abs=2)


def test_a_quiet_partition_with_one_new_record_is_not_as_old_as_its_last_one(
    consumer: Consumer,
) -> None:
    """Everything that came before the moment when nothing was left has been read."""
    measured = Lag(Metrics())
    for partition in (FIRST, SECOND):
        read(measured, consumer, partition, 100, 3_600)
    measured.measure(any_of(consumer), ())
    consumer.ends[FIRST] = 101
    measured.measure(any_of(consumer), ())
    assert 0 < measured.delay_s() < 2


def test_a_partition_that_is_held_is_behind_whatever_was_seen_of_it(consumer: Consumer) -> None:
    """While it is paused nothing is fetched, so nobody knows of what is new."""
    measured = Lag(Metrics())
    for partition in (FIRST, SECOND):
        read(measured, consumer, partition, 100, 0)
    measured.measure(any_of(consumer), {FIRST})
    first = measured.delay_s()
    time.sleep(0.01)
    assert measured.delay_s() > first > 0


def test_nobody_knows_the_delay_while_others_have_partitions(consumer: Consumer) -> None:
    measured = Lag(Metrics())
    assert measured.delay_s() == math.inf
    del consumer.ends[SECOND]
    read(measured, consumer, FIRST, 100, 0)
    measured.measure(any_of(consumer), ())
    assert measured.delay_s() == math.inf
    assert measured.partitions == 2


def test_a_clock_that_is_ahead_hides_nothing(consumer: Consumer) -> None:
    measured = Lag(Metrics())
    read(measured, consumer, FIRST, 50, -86_400)
    read(measured, consumer, SECOND, 100, 0)
    measured.measure(any_of(consumer), ())
    time.sleep(0.01)
    assert measured.delay_s() > 0


def test_many_short_transactions_are_none_that_stays_open(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stable offset moves, so each has ended."""
    clock = [0.0]
    monkeypatch.setattr(lag.time, "monotonic", lambda: clock[0])  # type: ignore[attr-defined]
    measured = Lag(Metrics())
    for number in range(50, 90):
        clock[0] += 1
        consumer.positions[FIRST] = consumer.stable[FIRST] = number
        measured.measure(any_of(consumer), ())
    assert measured.open_transactions() == {}
    clock[0] += 30
    measured.measure(any_of(consumer), ())
    assert measured.open_transactions() == {FIRST: 30}
