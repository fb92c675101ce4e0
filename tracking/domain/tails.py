"""The end of a route: what a further waypoint does to the verdicts. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from tracking.domain.hops import Recorded
from tracking.domain.verdicts import (
    STANDARD,
    Link,
    Rule,
    Verdict,
    has_position,
    is_implausible,
    link_to,
)


class Revision(Struct, frozen=True):
    """What a further waypoint changes: the new verdicts by seq, OK among them.

    `shown`: the further waypoint is good, so the marker stands there now.
    """

    changed: dict[int, Verdict]
    shown: bool


class Tail:
    """The end of a route, enough to judge what is appended. One thread at a time.

    One at a time gives what `judge` says of all at once. It holds `look_back` waypoints, whatever
    the length of the route.
    """

    def __init__(self, rule: Rule = STANDARD) -> None:
        self._rule = rule
        self._recent: deque[Link] = deque(maxlen=rule.look_back)
        self._count = 0  # of the waypoints with a position
        self._end, self._longest = -1, 0  # number of the last one that is kept; how many are

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
        tail = cls(rule)
        for number, waypoint in enumerate(last, count - len(last)):
            tail._recent.append(Link(number, waypoint, number + 1, number - 1))
        tail._count = tail._longest = count
        tail._end = count - 1
        return tail

    @property
    def left_out(self) -> int:
        """How many waypoints the rule leaves out."""
        return self._count - self._longest

    @property
    def implausible(self) -> bool:
        """So many that only what is pending is flagged."""
        count = self._end + 1
        return is_implausible(count - self._longest, count, self._rule)

    def append(self, waypoint: Recorded) -> Revision | None:
        """A waypoint behind all others, in recorded order.

        None: verdicts change that are older than the tail; `judge` says which. The tail is right
        afterwards in any case.
        """
        if not has_position(waypoint):
            return Revision({waypoint.seq: Verdict.NULL_ISLAND}, False)
        was_implausible = self.implausible
        link = link_to(self._count, waypoint, self._recent, self._longest, self._rule)
        is_longer, old_end = link.length > self._longest, self._end
        links = [*self._recent, link]
        self._recent.append(link)
        self._count += 1
        if is_longer:
            self._end, self._longest = link.number, link.length
        if not is_longer:
            return Revision({waypoint.seq: Verdict.PENDING}, False)
        if self.implausible or was_implausible:
            is_end = link.number - 1 == old_end and self.implausible and was_implausible
            return Revision({}, True) if is_end else None
        if link.before == link.number - 1 == old_end:
            return Revision({}, True)
        changed = _moved({each.number: each for each in links}, old_end, link.number)
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
