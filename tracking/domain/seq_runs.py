"""Sets of seqs as runs, from the one to the other, both included. Pure.

What a phone says while it is wrong comes one behind the other: thousands of seqs are a few runs.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import TypeAlias

# In order, none next to another.
Runs: TypeAlias = list[tuple[int, int]]


def runs_of(seqs: Iterable[int]) -> Runs:
    """Of seqs in any order, each of them once."""
    runs: Runs = []
    first = last = None
    for seq in sorted(seqs):
        if last is not None and first is not None and seq != last + 1:
            runs.append((first, last))
            first = None
        first, last = (seq if first is None else first), seq
    if first is not None and last is not None:
        runs.append((first, last))
    return runs


def holds(runs: Sequence[tuple[int, int]], seq: int) -> bool:
    """Whether the seq is among them."""
    place = bisect_right(runs, seq, key=_first)
    return place > 0 and seq <= runs[place - 1][1]


def holds_all(runs: Sequence[tuple[int, int]], others: Iterable[tuple[int, int]]) -> bool:
    """Whether all of the others are among them."""
    for first, last in others:
        place = bisect_right(runs, first, key=_first)
        if not place or last > runs[place - 1][1]:
            return False
    return True


def _first(run: tuple[int, int]) -> int:
    return run[0]
