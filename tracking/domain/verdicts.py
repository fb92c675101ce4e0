"""Which waypoints of a route cannot be true. Pure functions of the route in recorded order.

The rule: the fewest waypoints are left out that make the rest possible. A hop from one waypoint to
another is possible if its metres are at most speed * seconds + slack. The longest chain of possible
hops is kept; a hop spans at most `look_back` waypoints, or begins where the longest chain so far
ends: however long a phone was wrong, when it is right again the chain goes on. Of chains of equal
length each waypoint follows the nearest predecessor, and the chain that ends first is kept: what
lies behind its end is pending until something follows it. If of the waypoints up to that end more
than four and more than a fifth would be left out, none is: then it is not known which of them are
wrong ("implausible"). What is pending stays so all the same: the marker of a trip stands at the end
of the chain.

A wrong position less than some 300 m off within 5 s is not seen: a car could have been there.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from msgspec import Struct

from tracking.domain.hops import METRES_PER_DEGREE, Recorded, is_within, recorded
from tracking.domain.routes import Vertex


class Verdict(IntEnum):
    """As it is stored. What is not OK counts for no distance and moves no marker."""

    OK = 0
    JUMP = 1
    NULL_ISLAND = 2  # exactly (0, 0): what a receiver without a fix says
    PENDING = 3  # impossible from the newest good one, and nothing good behind it yet


class Rule(Struct, frozen=True):
    """The rule's parameters: stored with what they judged."""

    # No motorcycle or car in a city's traffic is faster: 0 to 0.3 % of real traces are flagged.
    max_speed_kmh: float = 150.0
    slack_m: float = 100.0  # what a phone's error may add to one hop
    look_back: int = 30  # waypoints: two to five minutes of wrong ones are bridged
    # Share of the waypoints with a position, up to the last one that is kept; and so many always
    # may be: a trip begins with a few wrong ones, and a fifth of nine is none.
    most_left_out: float = 0.2
    few_left_out: int = 4


class Judgement(Struct, frozen=True):
    """`verdicts` by seq, of the waypoints that are not OK.

    `left_out`: how many the rule leaves out; if it is `implausible`, those that are not pending are
    OK all the same.
    """

    verdicts: dict[int, Verdict]
    left_out: int
    implausible: bool


STANDARD: Final = Rule()


def is_possible(before: Recorded, after: Recorded, rule: Rule = STANDARD) -> bool:
    """Whether somebody could go from one to the other in time."""
    seconds = after.at_s - before.at_s
    return is_within(before, after, rule.max_speed_kmh / 3.6 * seconds + rule.slack_m)


def has_position(waypoint: Recorded) -> bool:
    """Whether the receiver knew where it was."""
    return bool(waypoint.longitude or waypoint.latitude)


def all_possible(waypoints: Iterable[Recorded], rule: Rule = STANDARD) -> bool:
    """Whether each hop to the next one is possible; then nothing is left out.

    The fast path: 0.2 to 0.5 µs for each waypoint. It may be asked of a part of a route whose other
    hops are known to be possible: a late waypoint with its two neighbours.
    """
    degrees_a_second = rule.max_speed_kmh / 3.6 / METRES_PER_DEGREE
    slack = rule.slack_m / METRES_PER_DEGREE
    before: Recorded | None = None
    for waypoint in waypoints:
        if before is None:
            before = waypoint
        _, then, x, y = before
        _, now, east, north = waypoint
        # What `is_within` tries first, without calling it.
        reach = degrees_a_second * (now - then) + slack
        if abs(east - x) + abs(north - y) > reach and not is_possible(before, waypoint, rule):
            return False
        before = waypoint
    return True


def all_reached(
    before: Vertex | None, vertices: Iterable[Vertex], after: Vertex | None, rule: Rule
) -> bool:
    """The same of vertices between two that are stored: 0.1 to 0.3 µs for each, as ingest has them.

    Most hops are shorter than what a phone's error may add: their times are not even looked at.
    """
    slack = rule.slack_m / METRES_PER_DEGREE
    for vertex in vertices if after is None else (*vertices, after):
        if before is not None:
            degrees = abs(vertex[3] - before[3]) + abs(vertex[4] - before[4])
            if degrees > slack and not is_possible(_recorded(before), _recorded(vertex), rule):
                return False
        before = vertex
    return True


def _recorded(vertex: Vertex) -> Recorded:
    return recorded(0, vertex.recorded_at, vertex.longitude, vertex.latitude)


def judge(route: Sequence[Recorded], rule: Rule = STANDARD) -> Judgement:
    """The whole route, in recorded order."""
    placed = [w for w in route if w.longitude or w.latitude]
    verdicts = {w.seq: Verdict.NULL_ISLAND for w in route if not has_position(w)}
    if all_possible(placed, rule):
        return Judgement(verdicts, 0, False)
    links = _links(placed, rule)
    end = max(range(len(links)), key=lambda number: links[number].length)  # the first of them
    for waypoint in placed[end + 1 :]:
        verdicts[waypoint.seq] = Verdict.PENDING
    left_out = len(placed) - links[end].length
    if is_implausible(end + 1 - links[end].length, end + 1, rule):
        return Judgement(verdicts, left_out, True)
    kept, number = set(), end
    while number >= 0:
        kept.add(number)
        number = links[number].before
    for number in range(end):
        if number not in kept:
            verdicts[placed[number].seq] = Verdict.JUMP
    return Judgement(dict(sorted(verdicts.items())), left_out, False)


def final(verdicts: Mapping[int, Verdict]) -> dict[int, Verdict]:
    """When nothing can follow any more: what is pending was a jump."""
    return {seq: Verdict.JUMP if v is Verdict.PENDING else v for seq, v in verdicts.items()}


def changes(before: Mapping[int, Verdict], after: Mapping[int, Verdict]) -> dict[int, Verdict]:
    """The verdicts that differ, by seq, as they are afterwards; what is absent is OK."""
    seqs = sorted(before.keys() | after.keys())
    found = {seq: after.get(seq, Verdict.OK) for seq in seqs}
    return {seq: v for seq, v in found.items() if v is not before.get(seq, Verdict.OK)}


class Link(NamedTuple):
    """A waypoint at the end of its longest chain."""

    number: int  # in the route, from 0, those without a position left out
    waypoint: Recorded
    length: int  # waypoints of the chain
    before: int  # the number of its predecessor, -1 at the chain's start


def _links(placed: Sequence[Recorded], rule: Rule) -> list[Link]:
    links: list[Link] = []
    chains = Chains(rule)
    for waypoint in placed:
        links.append(chains.add(len(links), waypoint))
    return links


class Chains:
    """The longest chains at the end of a route: all that a further waypoint can be joined to."""

    def __init__(self, rule: Rule, recent: Iterable[Link] = (), best: Link | None = None) -> None:
        self.recent: deque[Link] = deque(recent, maxlen=rule.look_back)
        self.best = best  # the end of the longest chain; of several the first
        self._rule = rule

    def mapped(self, place: Callable[[Link], Link]) -> "Chains":
        """With other numbers and lengths."""
        best = None if self.best is None else place(self.best)
        return Chains(self._rule, map(place, self.recent), best)

    def add(self, number: int, waypoint: Recorded) -> Link:
        """Join it to the longest chain that it can go on from; of equal ones to the nearest."""
        before, length = -1, 0
        best, recent = self.best, self.recent
        longest = 0 if best is None else best.length
        for link in reversed(recent):
            if link.length > length and is_possible(link.waypoint, waypoint, self._rule):
                before, length = link.number, link.length
                if length == longest:
                    break
        if (
            best is not None
            and length < longest
            and best.number < recent[0].number
            and is_possible(best.waypoint, waypoint, self._rule)
        ):
            before, length = best.number, longest
        link = Link(number, waypoint, length + 1, before)
        recent.append(link)
        if link.length > longest:
            self.best = link
        return link


def is_implausible(left_out: int, count: int, rule: Rule) -> bool:
    """Of the waypoints up to the last one that is kept."""
    return left_out > max(rule.few_left_out, rule.most_left_out * count)
