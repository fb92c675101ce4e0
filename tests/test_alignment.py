"""workers.kafka.alignment: what of a backlog goes on, and what waits for other partitions."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from workers.kafka.alignment import (
    AHEAD_RECORDS,
    BACKLOG,
    HELD_BYTES,
    POLL_S,
    PROGRESS_S,
    Alignment,
)

A, B, C = (TopicPartition("t", number) for number in range(3))
FAR = 1_000_000


class Reading:
    """Partitions that have a backlog, unless `ends` says otherwise; times in seconds."""

    def __init__(self) -> None:
        self.alignment = Alignment()
        self.ends = {A: FAR, B: FAR, C: FAR}
        self.now = 0.0
        self.offsets = dict.fromkeys((A, B, C), 0)

    def poll(self, size: int = 10, **times: list[float]) -> dict[TopicPartition, list[float]]:
        """The times of what goes on."""
        self.now += POLL_S
        polled = {TopicPartition("t", "ABC".index(name)): t for name, t in times.items()}
        records = {p: [self._record(p, each, size) for each in t] for p, t in polled.items()}
        found = self.alignment.merged(records, self.ends.get, self.now)
        return {p: [record.timestamp / 1000 for record in going] for p, going in found.items()}

    def _record(self, partition: TopicPartition, time: float, size: int) -> Any:
        self.offsets[partition] += 1
        return SimpleNamespace(
            offset=self.offsets[partition], timestamp=int(time * 1000), key=None,
            value=b"x" * size, headers=[],
        )  # fmt: skip


@pytest.fixture
def reading() -> Reading:
    return Reading()


def test_three_partitions_go_on_as_far_as_all_of_them_were_read(reading: Reading) -> None:
    assert reading.poll(A=[1, 2, 3], B=[1, 4], C=[2, 5]) == {A: [1, 2, 3], B: [1], C: [2]}
    assert reading.poll(A=[4, 9]) == {A: [4], B: [4]}
    assert reading.poll(B=[6], C=[7]) == {B: [6], C: [5]}
    assert reading.poll(A=[10], B=[9], C=[12]) == {A: [9], B: [9], C: [7]}


def test_of_one_partition_nothing_overtakes(reading: Reading) -> None:
    """Offsets are committed up to the last one that went on."""
    reading.poll(A=[1], B=[9, 3, 10])
    going = reading.poll(A=[20])
    assert going[B] == [9, 3, 10]


def test_what_is_live_waits_for_nobodys_past(reading: Reading) -> None:
    reading.poll(A=[1])
    reading.ends[B] = reading.offsets[B] + 1 + BACKLOG
    assert reading.poll(B=[100]) == {B: [100]}


def test_nobody_waits_for_a_partition_that_has_no_backlog(reading: Reading) -> None:
    reading.ends[A] = 1 + BACKLOG
    assert reading.poll(A=[1], B=[100]) == {A: [1], B: [100]}


def test_nobody_waits_for_a_partition_that_stands_still(reading: Reading) -> None:
    assert reading.poll(A=[1], B=[2, 3]) == {A: [1]}
    going = [reading.poll() for _ in range(round(PROGRESS_S / POLL_S) + 1)]
    assert going[0] == {}
    assert {B: [2, 3]} in going
    assert not reading.alignment.waiting()


def test_while_nothing_is_read_at_all_nobody_stands_still(reading: Reading) -> None:
    reading.poll(A=[1], B=[2])
    reading.now += 60  # the database was away
    assert reading.poll(A=[1.5]) == {A: [1.5]}


def test_a_partition_that_went_away_takes_along_what_waits_of_it(reading: Reading) -> None:
    reading.poll(A=[1], B=[2, 3], C=[4])
    reading.alignment.forget({A, B})
    assert reading.poll() == {C: [4]}
    assert reading.alignment.bytes == 0


def test_what_waits_is_bounded_in_bytes(reading: Reading) -> None:
    half = HELD_BYTES // 2
    assert reading.poll(A=[1], B=[2, 3], size=half // 2) == {A: [1]}
    assert reading.alignment.bytes == half // 2 * 2
    assert reading.poll(B=[4, 5, 6], size=half // 2) == {B: [2, 3, 4, 5, 6]}
    assert reading.alignment.bytes == 0


def test_a_partition_that_is_far_ahead_is_not_read_further(reading: Reading) -> None:
    reading.poll(A=[1], B=[2.0] * AHEAD_RECORDS)
    assert reading.alignment.ahead() == {B}
    reading.poll(A=[3])
    assert reading.alignment.ahead() == set()


def test_what_waits_of_a_partition_can_be_asked_for(reading: Reading) -> None:
    reading.poll(A=[1], B=[2], C=[3])
    assert list(reading.alignment.released([B])) == [B]
    assert reading.alignment.waiting()
    reading.alignment.clear()
    assert not reading.alignment.waiting()


def test_a_backlog_waits_for_what_others_forward_from_theirs_and_the_reverse() -> None:
    reading = Reading()
    routed = TopicPartition("r", 0)
    reading.alignment = Alignment("r")
    reading.offsets[routed], reading.ends[routed] = 0, 5  # no backlog of its own

    def poll(a: list[float], forwarded: list[float]) -> list[float]:
        records = {
            partition: [reading._record(partition, each, 10) for each in times]
            for partition, times in ((A, a), (routed, forwarded))
            if times
        }
        reading.now += POLL_S
        found = reading.alignment.merged(records, reading.ends.get, reading.now)
        return sorted(record.timestamp / 1000 for going in found.values() for record in going)

    assert poll([1, 2, 3], [1, 2]) == [1, 1, 2, 2]
    assert poll([4], [3, 9]) == [3, 3, 4]
    assert poll([10], []) == [9]


def test_what_others_forward_live_waits_for_nobodys_past() -> None:
    reading = Reading()
    routed, now = TopicPartition("r", 0), time.time()
    reading.alignment = Alignment("r")
    reading.offsets[routed] = 0
    records = {A: [reading._record(A, 1, 10)], routed: [reading._record(routed, now, 10)]}
    assert reading.alignment.merged(records, reading.ends.get, POLL_S).keys() == {A, routed}
