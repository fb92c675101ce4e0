"""workers.kafka.offsets: what may be committed, whoever had the partition in between."""

from types import SimpleNamespace

from kafka import TopicPartition

from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.offsets import Offsets

PARTITION, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


def batch(
    offsets: Offsets, offset: int, *dead: int, partition: TopicPartition = PARTITION
) -> Batch:
    """Read now, up to the offset; of these records some are dead."""
    made = Batch(offsets={tuple(partition): offset})
    made.generations = {tuple(partition): offsets.generation(partition)}
    for number in dead:
        record = SimpleNamespace(
            topic=partition.topic, partition=partition.partition, offset=number
        )
        made.poison.append(DeadLetter(record, "reason"))
    return made


def test_offsets_wait_for_the_dead_letters_below_them() -> None:
    offsets = Offsets()
    clean, one, later = batch(offsets, 10), batch(offsets, 20, 12), batch(offsets, 30)
    for each in (clean, one, later):
        offsets.stored(each)
    assert offsets.pop_ready() == {PARTITION: 10}
    assert offsets.waiting() == {PARTITION}
    assert offsets.pop_ready() == {}
    offsets.acknowledged(one.poison)
    assert offsets.pop_ready() == {PARTITION: 30}
    assert offsets.waiting() == set()


def test_the_first_of_several_dead_letters_holds_back_what_lies_behind_it() -> None:
    offsets = Offsets()
    one, two = batch(offsets, 15, 12), batch(offsets, 20, 18)
    for each in (batch(offsets, 10), one, two):
        offsets.stored(each)
    assert offsets.pop_ready() == {PARTITION: 10}
    offsets.acknowledged(two.poison)
    assert offsets.pop_ready() == {}
    offsets.acknowledged(one.poison)
    assert offsets.pop_ready() == {PARTITION: 20}


def test_a_record_that_is_no_event_holds_back_what_is_stored_behind_it() -> None:
    """It was sent away when it was read, before anything of its batch was stored."""
    offsets = Offsets()
    malformed = batch(offsets, 0, 12).poison
    offsets.unreadable(malformed)
    for end in (12, 20, 30):
        offsets.stored(batch(offsets, end))
    assert offsets.pop_ready() == {PARTITION: 12}
    offsets.acknowledged(malformed)
    assert offsets.pop_ready() == {PARTITION: 30}


def test_what_was_read_before_a_partition_was_revoked_is_not_committed() -> None:
    offsets = Offsets()
    stored, in_flight = batch(offsets, 10), batch(offsets, 20)
    other = batch(offsets, 7, partition=OTHER)
    offsets.stored(stored)
    offsets.revoked([PARTITION])
    assert offsets.pop_ready() == {}
    # It came back, further on, and is read again.
    again = batch(offsets, 60)
    for each in (in_flight, other, again):
        offsets.stored(each)
    assert offsets.pop_ready() == {PARTITION: 60, OTHER: 7}


def test_a_batch_of_both_generations_counts_for_the_later() -> None:
    offsets = Offsets()
    merged = batch(offsets, 20)
    offsets.revoked([PARTITION])
    merged.extend(batch(offsets, 60))
    offsets.stored(merged)
    assert offsets.pop_ready() == {PARTITION: 60}
    early = batch(offsets, 70)
    offsets.revoked([PARTITION])
    early.extend(batch(offsets, 5, partition=OTHER))
    offsets.stored(early)
    assert offsets.pop_ready() == {OTHER: 5}


def test_dead_letters_of_an_earlier_generation_block_nothing() -> None:
    offsets = Offsets()
    on_their_way, in_flight = batch(offsets, 10, 3, 4), batch(offsets, 20, 15)
    offsets.stored(on_their_way)
    offsets.revoked([PARTITION])
    assert offsets.waiting() == set()
    offsets.stored(in_flight)
    assert offsets.waiting() == set()
    now = batch(offsets, 80, 70)
    offsets.stored(now)
    assert (offsets.pop_ready(), offsets.waiting()) == ({}, {PARTITION})
    offsets.acknowledged([*on_their_way.poison, *in_flight.poison])
    assert offsets.pop_ready() == {}  # these are not the dead letter that it waits for
    offsets.acknowledged(now.poison)
    assert offsets.pop_ready() == {PARTITION: 80}


def test_a_record_that_is_read_twice_waits_for_one_of_its_dead_letters() -> None:
    offsets = Offsets()
    first = batch(offsets, 10, 3)
    offsets.stored(first)
    offsets.revoked([PARTITION])
    offsets.stored(batch(offsets, 10, 3))
    offsets.acknowledged(first.poison)
    assert offsets.pop_ready() == {PARTITION: 10}


def test_a_partition_may_be_revoked_again_and_again() -> None:
    offsets = Offsets()
    for number in range(1, 5):
        read = batch(offsets, number * 10, number)
        offsets.revoked([PARTITION, OTHER])
        offsets.stored(read)
        offsets.acknowledged(read.poison)
        assert (offsets.pop_ready(), offsets.waiting()) == ({}, set())
    offsets.stored(batch(offsets, 99))
    assert offsets.pop_ready() == {PARTITION: 99}
