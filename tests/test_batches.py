"""workers.kafka.batches: what gathers while another batch is stored."""

from collections import Counter
from uuid import UUID

from workers.kafka.batches import Batch
from workers.kafka.dead_letters import DeadLetter


def test_what_arrived_later_is_appended_and_its_offsets_win() -> None:
    first = Batch(
        offsets={("t", 0): 5, ("t", 1): 7}, generations={("t", 0): 1}, size=3, bytes=30,
        outcomes=Counter({("x", "dead"): 1}), adopt=frozenset({UUID(int=1)}),
    )  # fmt: skip
    letter = DeadLetter(object(), "malformed")
    later = Batch(
        offsets={("t", 0): 9}, generations={("t", 0): 2}, size=4, bytes=40, poison=[letter],
        outcomes=Counter({("x", "dead"): 2}), dropped=Counter({"pet_name": 1}),
        adopt=frozenset({UUID(int=2)}),
    )  # fmt: skip
    taken_at = first.taken_at
    first.extend(later)
    assert first.offsets == {("t", 0): 9, ("t", 1): 7}
    assert first.generations == {("t", 0): 2}
    assert (first.size, first.bytes, first.poison) == (7, 70, [letter])
    assert (first.outcomes["x", "dead"], first.dropped["pet_name"]) == (3, 1)
    assert first.adopt == {UUID(int=1), UUID(int=2)}
    assert first.taken_at == taken_at  # the wait of the oldest
