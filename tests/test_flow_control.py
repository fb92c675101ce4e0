"""workers.kafka.flow_control: what is handed over at once, and what is in flight."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from workers.kafka import alignment as alignment_module
from workers.kafka.flow_control import HELD_TIMEOUT_MS, POLL_TIMEOUT_MS, FlowControl

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
LIMIT = 3


def records(*offsets: int, size: int = 1) -> list[Any]:
    return [
        SimpleNamespace(offset=n, timestamp=n, key=None, value=b"x" * size, headers=[])
        for n in offsets
    ]


class Ends:
    """All that FlowControl asks of a consumer here; A and B are its own."""

    def __init__(self, end: int = 1_000_000) -> None:
        self.end = end
        self._fetcher = SimpleNamespace(last_stable={})
        self._paused: set[TopicPartition] = set()

    def assignment(self) -> set[TopicPartition]:
        return {A, B}

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, *partitions: TopicPartition) -> None:
        assert self.assignment().issuperset(partitions), "Kafka refuses that"
        self._paused |= {*partitions}

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused -= {*partitions}

    def highwater(self, _: TopicPartition) -> int:
        return self.end


def offsets_of(part: dict[TopicPartition, list[Any]]) -> dict[TopicPartition, list[int]]:
    return {partition: [record.offset for record in going] for partition, going in part.items()}


def test_no_part_is_larger_than_a_transaction_and_none_overtakes() -> None:
    flow: Any = FlowControl(LIMIT)
    polled = {A: records(1, 2), B: records(1, 2, 3, 4, 5)}
    parts = [offsets_of(part) for part in flow.going_on(polled, Ends(0))]
    assert parts == [{A: [1, 2], B: [1]}, {B: [2]}, {B: [3, 4]}, {B: [5]}]


def test_each_part_is_newer_than_the_part_before() -> None:
    flow: Any = FlowControl(4)
    polled = {A: records(1, 3, 5, 7), B: records(2, 4, 6, 8)}
    parts = [offsets_of(part) for part in flow.going_on(polled, Ends(0))]
    assert parts == [{A: [1, 3], B: [2, 4]}, {A: [5, 7], B: [6, 8]}]


def test_a_partition_keeps_its_order_whatever_its_producers_clocks_say() -> None:
    flow: Any = FlowControl(2)
    listed = records(1, 2, 3, 4)
    listed[0].timestamp = 9
    parts = [offsets_of(part) for part in flow.going_on({A: listed, B: records(1)}, Ends(0))]
    assert [offset for part in parts for offset in part.get(A, [])] == [1, 2, 3, 4]


def test_what_waits_for_another_partition_is_told() -> None:
    flow: Any = FlowControl(LIMIT)
    far = Ends()
    assert [offsets_of(part) for part in flow.going_on({A: records(1), B: records(2, 3)}, far)] == [
        {A: [1]}
    ]
    assert flow.waiting() == {B: 2}
    assert flow.waiting_bytes > 0
    assert [offsets_of(part) for part in flow.released(B)] == [{B: [2, 3]}]
    assert (flow.waiting(), flow.waiting_bytes) == ({}, 0)


def test_what_is_held_is_not_read_until_it_is_let_go() -> None:
    flow, consumer = FlowControl(LIMIT), Ends()
    read: Any = consumer
    assert flow.pause(read, {A}) == HELD_TIMEOUT_MS
    assert consumer.paused() == {A}
    assert flow.pause(read, {B}) == HELD_TIMEOUT_MS
    assert consumer.paused() == {B}
    assert flow.pause(read, set()) == POLL_TIMEOUT_MS
    assert consumer.paused() == set()
    assert flow.pause(read, {TopicPartition("somebody else's", 0)}) == POLL_TIMEOUT_MS
    assert flow.pause_all(read) == HELD_TIMEOUT_MS
    assert consumer.paused() == {A, B}


def test_what_is_far_ahead_of_the_others_is_not_read_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alignment_module, "AHEAD_RECORDS", 3)
    flow, consumer = FlowControl(LIMIT), Ends()
    read: Any = consumer
    flow.going_on({A: records(1), B: records(2, 3)}, read)
    assert flow.pause(read, set()) == HELD_TIMEOUT_MS  # soon something may let B go on
    assert consumer.paused() == set()
    flow.going_on({B: records(4)}, read)
    assert flow.pause(read, set()) == HELD_TIMEOUT_MS
    assert consumer.paused() == {B}


def test_what_waits_is_forgotten_when_it_is_read_again_or_by_somebody_else() -> None:
    flow: Any = FlowControl(LIMIT)
    polled = {A: records(1), B: records(2, 3)}
    flow.going_on(polled, Ends())
    flow.revoked({B})
    assert (flow.waiting(), flow.waiting_bytes) == ({}, 0)
    flow.going_on(polled, Ends())
    flow.clear()
    assert (flow.waiting(), flow.waiting_bytes) == ({}, 0)
