"""workers.kafka.alignment: who waits for whom while a backlog is read."""

from types import SimpleNamespace

import pytest
from kafka import TopicPartition

from workers.kafka.alignment import AHEAD_S, BACKLOG, PROGRESS_S, Alignment

FAST, SLOW = TopicPartition("t", 0), TopicPartition("t", 1)
FAR = 1_000_000


def read(alignment: Alignment, partition: TopicPartition, second: float, now: float = 0.0) -> None:
    record = SimpleNamespace(offset=99, timestamp=second * 1000)
    alignment.read(partition, [record], now)


def ahead(
    alignment: Alignment, ends: dict[TopicPartition, int], now: float = 0.0
) -> set[TopicPartition]:
    return alignment.ahead({FAST, SLOW}, ends.get, now)


@pytest.fixture
def apart() -> Alignment:
    alignment = Alignment()
    read(alignment, FAST, 101)
    read(alignment, SLOW, 100)
    return alignment


def test_the_partition_that_is_ahead_waits_until_the_other_has_followed(apart: Alignment) -> None:
    ends = {FAST: FAR, SLOW: FAR}
    assert ahead(apart, ends) == {FAST}
    read(apart, SLOW, 101 - AHEAD_S / 2)
    assert ahead(apart, ends) == set()


def test_what_is_live_waits_for_nobodys_past(apart: Alignment) -> None:
    assert ahead(apart, {FAST: 100 + BACKLOG, SLOW: FAR}) == set()


def test_nobody_waits_for_a_partition_that_has_no_backlog(apart: Alignment) -> None:
    assert ahead(apart, {FAST: FAR, SLOW: 100}) == set()


def test_nobody_waits_for_a_partition_that_gives_nothing(apart: Alignment) -> None:
    assert ahead(apart, {FAST: FAR, SLOW: FAR}, now=PROGRESS_S) == set()


def test_a_partition_that_went_away_is_forgotten(apart: Alignment) -> None:
    apart.forget({SLOW})
    assert ahead(apart, {FAST: FAR, SLOW: FAR}) == set()


def test_a_partition_whose_end_is_not_known_is_left_alone(apart: Alignment) -> None:
    assert ahead(apart, {}) == set()
