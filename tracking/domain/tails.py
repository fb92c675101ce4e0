"""The end of a route: what a further waypoint does to the verdicts. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from tracking.domain.hops import Recorded
from tracking.domain.verdicts import (
    STANDARD,
    Chains,
    Link,
    Rule,
    Verdict,
    has_position,
    is_implausible,
)


class Revision(Struct, frozen=True):
    """What a further waypoint changes: the new verdicts by seq, OK among them.

    `shown`: the further waypoint is good, so the marker stands there now.
    """

    changed: dict[int, Verdict]
    shown: bool


class Tail:
    """The end of a route, enough to judge what is appended. One thread at a time.

    One at a time gives what `judge` says of all at once. It holds `look_back` waypoints and what is
    pending, whatever the length of the route.
    """

    def __init__(self, rule: Rule = STANDARD) -> None:
        self._rule = rule
        self._chains = Chains(rule)
        self._count = 0  # of the waypoints with a position
        self._pending: list[int] = []  # the seqs of what is behind the last one that is kept

    @classmethod
    def of(cls, route: Iterable[Recorded], rule: Rule = STANDARD) -> "Tail":
        """Of a whole route."""
        tail = cls(rule)
        for waypoint in route:
            tail.append(waypoint)
        return tail

    @classmethod
    def of_possible(cls, last: Sequence[Recorded], count: int, rule: Rule = STANDARD) -> "Tail":
        """Of a route of `count` waypoints whose hops are all possible, from the last of them.

        `last` has `look_back` waypoints, or all if there are fewer.
        """
        links = [
            Link(n, waypoint, n + 1, n - 1) for n, waypoint in enumerate(last, count - len(last))
        ]
        return cls.of_chains(Chains(rule, links, links[-1] if links else None), count, [], rule)

    @classmethod
    def of_chains(cls, chains: Chains, count: int, pending: list[int], rule: Rule) -> "Tail":
        """Of a route that was judged otherwise."""
        tail = cls(rule)
        tail._chains, tail._count, tail._pending = chains, count, pending
        return tail

    @property
    def chains(self) -> Chains:
        """At the route's end."""
        return self._chains

    @property
    def pending(self) -> list[int]:
        """The seqs of what is behind the last one that is kept."""
        return self._pending

    @property
    def left_out(self) -> int:
        """How many waypoints the rule leaves out."""
        best = self._chains.best
        return self._count - (0 if best is None else best.length)

    @property
    def implausible(self) -> bool:
        """So many that only what is pending is flagged."""
        best = self._chains.best
        if best is None:
            return False
        return is_implausible(best.number + 1 - best.length, best.number + 1, self._rule)

    def append(self, waypoint: Recorded) -> Revision | None:
        """A waypoint behind all others, in recorded order.

        None: verdicts change that are older than the tail; `judge` says which. The tail is right
        afterwards in any case.
        """
        if not has_position(waypoint):
            return Revision({waypoint.seq: Verdict.NULL_ISLAND}, False)
        was_implausible, links, old = self.implausible, [*self._chains.recent], self._chains.best
        link = self._chains.add(self._count, waypoint)
        self._count += 1
        if self._chains.best is not link:
            self._pending.append(waypoint.seq)
            return Revision({waypoint.seq: Verdict.PENDING}, False)
        pending, self._pending = self._pending, []
        if self.implausible or was_implausible:
            is_both = self.implausible and was_implausible
            return Revision(dict.fromkeys(pending, Verdict.OK), True) if is_both else None
        old_end = -1 if old is None else old.number
        if link.before == old_end:
            return Revision(dict.fromkeys(pending, Verdict.JUMP), True)
        changed = _moved({each.number: each for each in [*links, link]}, old_end, link.number)
        return None if changed is None else Revision(changed, True)


def _moved(links: Mapping[int, Link], old_end: int, new_end: int) -> dict[int, Verdict] | None:
    """What changes when the longest chain ends elsewhere; None if that is not within `links`."""
    old, new = _chain(links, old_end), _chain(links, new_end)
    common = max(set(old) & set(new), default=None)
    if common is None:
        return None
    changed = {links[number].waypoint.seq: Verdict.JUMP for number in old if number > common}
    for number in range(old_end + 1, new_end):
        changed[links[number].waypoint.seq] = Verdict.JUMP  # was pending
    for number in new:
        if common < number < new_end:
            changed[links[number].waypoint.seq] = Verdict.OK
    return dict(sorted(changed.items()))


def _chain(links: Mapping[int, Link], end: int) -> list[int]:
    """From its end backwards, as far as `links` reach; -1 is the start of every chain."""
    numbers, number = [], end
    while number in links:
        numbers.append(number)
        number = links[number].before
    return [*numbers, number]
