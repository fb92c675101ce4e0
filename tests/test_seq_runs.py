"""tracking.domain.seq_runs: what sets of seqs are as runs."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.seq_runs import holds, holds_all, runs_of

SEQS = st.sets(st.integers(1, 40))


def test_neighbours_are_one_run() -> None:
    assert runs_of([9, 3, 4, 5, 7]) == [(3, 5), (7, 7), (9, 9)]
    assert runs_of(range(1, 2001)) == [(1, 2000)]
    assert runs_of([]) == []


@given(SEQS, SEQS)
def test_runs_say_what_the_set_says(some: set[int], others: set[int]) -> None:
    runs = runs_of(some)
    assert {seq for first, last in runs for seq in range(first, last + 1)} == some
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(runs))
    assert [seq for seq in range(42) if holds(runs, seq)] == sorted(some)
    assert holds_all(runs, runs_of(others)) == (others <= some)
