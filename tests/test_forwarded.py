"""workers.kafka.forwarded: which process a record belongs to, and how it gets there."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from kafka import TopicPartition

from tracking.metrics import Metrics
from tracking.wire.relay import shard_of
from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.forwarded import (
    MOST_BUNDLE_BYTES,
    MOST_RECORD_BYTES,
    bundles_of,
    encoded,
    end_of,
    shard_in,
    unbundled,
)
from workers.kafka.in_flight import InFlight
from workers.kafka.offsets import Offsets

BOOKING = "0d5a1b2c-3d4e-4f50-8a6b-7c8d9e0f1AfE"
RUNNER = "0d5a1b2c-3d4e-4f50-8a6b-7c8d9e0f1a07"


def record(offset: int = 0, value: bytes | None = b"{}", **changes: Any) -> Any:
    made = {"topic": "p.runner.events", "partition": 3, "offset": offset, "timestamp": 1_000,
            "key": None, "value": value, "headers": []}  # fmt: skip
    return SimpleNamespace(**{**made, **changes})


@pytest.mark.parametrize(
    ("value", "shard"),
    [
        (f'{{"booking_id":"{BOOKING}"}}'.encode(), 0xFE),
        (f'{{"runner_id": "{RUNNER}", "booking_id" : "{BOOKING}"}}'.encode(), 0xFE),
        (f'{{"runner_id":"{RUNNER}"}}'.encode(), 7),
        (f'{{"runner_id":"{RUNNER}","booking_id":null}}'.encode(), 7),
        (b'{"booking_id":"12"}', None),
        (b"", None),
        (None, None),
        (f'{{"booking_id":"{BOOKING}"}}'.encode() + b" " * MOST_RECORD_BYTES, None),
    ],
)
def test_the_booking_says_whose_a_record_is_or_else_its_runner(
    value: bytes | None, shard: int | None
) -> None:
    assert shard_in(record(value=value)) == shard


def test_it_is_the_shard_by_which_live_processes_hear_of_it() -> None:
    assert shard_in(record(value=f'{{"booking_id":"{BOOKING}"}}'.encode())) == shard_of(
        UUID(BOOKING)
    )


def test_everything_that_kafka_said_of_a_record_survives() -> None:
    sent = [
        record(7, b"one", key=b"k", headers=[("ce_type", b"x"), ("none", None)]),
        record(9, None, timestamp=-1),
    ]
    (bundle,) = bundles_of(sent)
    came = record(40, encoded(bundle), topic="p.tracking.routed", partition=1)
    first, last = unbundled(came)
    for was, one in zip(sent, (first, last), strict=True):
        assert (one.key, one.value, one.timestamp) == (was.key, was.value, was.timestamp)
        assert [tuple(each) for each in one.headers] == was.headers
        source = one.source
        assert (source.topic, source.partition, source.offset) == (was.topic, 3, was.offset)
        assert (one.topic, one.partition, one.offset) == ("p.tracking.routed", 1, 40)


@pytest.mark.parametrize("value", [None, b"", b"\x92", b"{}", b"\x92\x02\x90", b"\x92\x01\x90"])
def test_what_is_no_bundle_stays_what_it_is(value: bytes | None) -> None:
    came = record(value=value)
    assert unbundled(came) == [came]


def test_a_bundle_is_passed_when_its_last_record_is() -> None:
    (bundle,) = bundles_of([record(1), record(2)])
    first, last = unbundled(record(40, encoded(bundle)))
    assert (end_of(first), end_of(last), end_of(record(40))) == (40, 41, 41)


def test_bundles_are_bounded_and_know_where_each_partition_waits() -> None:
    size = MOST_BUNDLE_BYTES // 2
    records = [record(n, b"x" * size, partition=n % 2) for n in range(5)]
    bundles = list(bundles_of(records))
    assert [len(each.records) for each in bundles] == [2, 2, 1]
    one, two = (TopicPartition("p.runner.events", number) for number in (0, 1))
    assert bundles[1].offsets == {one: 2, two: 3}
    assert sum(each.bytes for each in bundles) == 5 * size


PLACE = TopicPartition("p.runner.events", 3)


def test_offsets_wait_for_what_another_process_is_to_store() -> None:
    offsets = Offsets()
    one, two = next(iter(bundles_of([record(5)]))), next(iter(bundles_of([record(5), record(8)])))
    offsets.hold(one)
    offsets.hold(two)
    offsets._stored[PLACE].append(10)
    for each in (one, two):
        assert offsets.pop_ready() == {}
        assert offsets.waiting() == set()  # nobody else's records wait for that
        offsets.release(each)
    assert offsets.pop_ready() == {PLACE: 10}
    offsets.release(one)


def test_an_old_answer_frees_no_bundle_that_begins_with_the_same_record() -> None:
    """A rebalance between the two: the record was read again, and more behind it."""
    offsets = Offsets()
    old, new = next(iter(bundles_of([record(5)]))), next(iter(bundles_of([record(5), record(8)])))
    offsets.hold(old)
    offsets.revoked([PLACE])
    offsets.hold(new)
    offsets.stored(Batch(offsets={tuple(PLACE): 10}, generations={tuple(PLACE): 1}))
    offsets.release(old)
    assert offsets.pop_ready() == {}
    offsets.release(new)
    assert offsets.pop_ready() == {PLACE: 10}


def test_a_dead_letters_answer_frees_no_bundle_either() -> None:
    offsets, letter = Offsets(), DeadLetter(record(5), "why")
    offsets.unreadable([letter])
    offsets.revoked([PLACE])
    bundle = next(iter(bundles_of([record(5)])))
    offsets.hold(bundle)
    offsets._stored[PLACE].append(10)
    offsets.acknowledged([letter])
    assert offsets.pop_ready() == {}


def test_the_poison_of_what_came_back_is_waited_for() -> None:
    metrics = Metrics()
    sender: Any = SimpleNamespace(send=lambda letters: None, failing_since=None)
    flight = InFlight(100, metrics, sender)
    given: list[Batch] = []
    flight.start(given.append)
    flight.revoked({PLACE})
    (bundle,) = bundles_of([record(5), record(6)])
    flight.forward([bundle])
    batch = Batch(size=2)
    flight.take_back(bundle, batch, [])
    flight.give(Batch(), {PLACE: 7})
    poison = DeadLetter(record(5), "why")
    given[0].poison.append(poison)
    for each in given:
        flight.done(each)
    flight.collect()
    assert flight.offsets.pop_ready() == {}
    flight.done([poison])
    flight.collect()
    assert flight.offsets.pop_ready() == {PLACE: 7}


def test_two_dead_letters_of_one_bundle_are_both_waited_for() -> None:
    (bundle,) = bundles_of([record(1), record(2)])
    letters = [DeadLetter(each, "why") for each in unbundled(record(40, encoded(bundle)))]
    offsets, place = Offsets(), letters[0].partition
    offsets.unreadable(letters)
    offsets._stored[place].append(41)
    offsets.acknowledged(letters[:1])
    assert offsets.pop_ready() == {}
    offsets.acknowledged(letters[1:])
    assert offsets.pop_ready() == {place: 41}
