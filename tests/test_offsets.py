"""workers.kafka.offsets: what may be committed, whoever had the partition in between."""

from types import SimpleNamespace

from kafka import TopicPartition

from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter
from workers.kafka.offsets import Offsets

PLACE, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


def batch(offsets: Offsets, offset: int, *dead: int, place: TopicPartition = PLACE) -> Batch:
    """Read now, up to the offset; of these records some are dead."""
    made = Batch(offsets={tuple(place): offset})
    made.generations = {tuple(place): offsets.generation(place)}
    for number in dead:
        record = SimpleNamespace(topic=place.topic, partition=place.partition, offset=number)
        made.dead.append(DeadLetter(record, "reason"))
    return made


def test_offsets_wait_for_the_letters_below_them() -> None:
    offsets = Offsets()
    clean, one, later = batch(offsets, 10), batch(offsets, 20, 12), batch(offsets, 30)
    for each in (clean, one, later):
        offsets.stored(each)
    assert offsets.take() == {PLACE: 10}
    assert offsets.waiting() == {PLACE}
    assert offsets.take() == {}
    offsets.acknowledged(one.dead)
    assert offsets.take() == {PLACE: 30}
    assert (offsets.dead_letters, offsets.waiting()) == (0, set())


def test_what_was_read_before_a_partition_was_revoked_is_not_committed() -> None:
    offsets = Offsets()
    stored, in_flight = batch(offsets, 10), batch(offsets, 20)
    other = batch(offsets, 7, place=OTHER)
    offsets.stored(stored)
    offsets.revoked([PLACE])
    assert offsets.take() == {}
    # It came back, further on, and is read again.
    again = batch(offsets, 60)
    for each in (in_flight, other, again):
        offsets.stored(each)
    assert offsets.take() == {PLACE: 60, OTHER: 7}


def test_a_batch_of_both_generations_counts_for_the_later() -> None:
    offsets = Offsets()
    merged = batch(offsets, 20)
    offsets.revoked([PLACE])
    merged.extend(batch(offsets, 60))
    offsets.stored(merged)
    assert offsets.take() == {PLACE: 60}
    early = batch(offsets, 70)
    offsets.revoked([PLACE])
    early.extend(batch(offsets, 5, place=OTHER))
    offsets.stored(early)
    assert offsets.take() == {OTHER: 5}


def test_letters_of_an_earlier_generation_neither_block_nor_count() -> None:
    offsets = Offsets()
    on_their_way, in_flight = batch(offsets, 10, 3, 4), batch(offsets, 20, 15)
    offsets.stored(on_their_way)
    offsets.acknowledged(on_their_way.dead[:1])
    offsets.revoked([PLACE])
    assert offsets.waiting() == set()
    assert offsets.dead_letters == 1  # it still lies in memory
    offsets.stored(in_flight)
    assert (offsets.dead_letters, offsets.waiting()) == (2, set())
    now = batch(offsets, 80, 70)
    offsets.stored(now)
    assert (offsets.take(), offsets.waiting()) == ({}, {PLACE})
    offsets.acknowledged([*on_their_way.dead[1:], *in_flight.dead])
    assert offsets.take() == {}  # these are not the letter that it waits for
    offsets.acknowledged(now.dead)
    assert offsets.take() == {PLACE: 80}
    assert (offsets.dead_letters, offsets.waiting()) == (0, set())


def test_a_partition_may_be_revoked_again_and_again() -> None:
    offsets = Offsets()
    for number in range(1, 5):
        read = batch(offsets, number * 10, number)
        offsets.revoked([PLACE, OTHER])
        offsets.stored(read)
        offsets.acknowledged(read.dead)
        assert (offsets.take(), offsets.dead_letters) == ({}, 0)
    offsets.stored(batch(offsets, 99))
    assert offsets.take() == {PLACE: 99}
