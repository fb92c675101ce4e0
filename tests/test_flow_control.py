"""workers.kafka.flow_control: what is handed over at once, and what is in flight."""

from types import SimpleNamespace
from typing import Any

from kafka import TopicPartition

from workers.kafka.flow_control import FlowControl

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
LIMIT = 3


def records(*offsets: int, size: int = 1) -> list[Any]:
    return [
        SimpleNamespace(offset=n, timestamp=n, key=None, value=b"x" * size, headers=[])
        for n in offsets
    ]


class Ends:
    """All that FlowControl asks of a consumer here."""

    def __init__(self, end: int) -> None:
        self.end = end
        self._fetcher = SimpleNamespace(last_stable={})

    def highwater(self, _: TopicPartition) -> int:
        return self.end


def offsets_of(part: dict[TopicPartition, list[Any]]) -> dict[TopicPartition, list[int]]:
    return {partition: [record.offset for record in going] for partition, going in part.items()}


def test_no_part_is_larger_than_a_transaction_and_none_overtakes() -> None:
    flow: Any = FlowControl(LIMIT)
    polled = {A: records(1, 2), B: records(1, 2, 3, 4, 5)}
    parts = [offsets_of(part) for part in flow.going_on(polled, Ends(0))]
    assert parts == [{A: [1, 2], B: [1]}, {B: [2, 3, 4]}, {B: [5]}]


def test_what_waits_for_another_partition_is_told() -> None:
    flow: Any = FlowControl(LIMIT)
    far = Ends(1_000_000)
    assert [offsets_of(part) for part in flow.going_on({A: records(1), B: records(2, 3)}, far)] == [
        {A: [1]}
    ]
    assert flow.waiting() == {B: 2}
    assert flow.waiting_bytes > 0
    assert [offsets_of(part) for part in flow.released(B)] == [{B: [2, 3]}]
    assert (flow.waiting(), flow.waiting_bytes) == ({}, 0)
