"""What late waypoints do to the verdicts of a route: a stretch of it is enough to say. Pure.

The chains at a waypoint depend on those of the `look_back` waypoints before it, and on the longest
one. Where so many in a row are kept, these are known but for their length: `_anchor`. And where
the chains behind the late waypoints differ from what they were by their length alone, all that
follows is as it was: `_is_as_before`. Lengths decide only between chains that go on and chains that
begin anew; these hold nothing that is kept, so they are shorter than there are waypoints left out.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from tracking.domain.hops import Recorded
from tracking.domain.tails import Tail
from tracking.domain.verdicts import STANDARD, Chains, Link, Rule, Verdict, is_implausible

# Before the stretch is more than any route has: chains that go on are longer than those that begin.
LONG: Final = 1 << 40


class Row(NamedTuple):
    """A waypoint of the route with its verdict; None: it is new."""

    waypoint: Recorded
    verdict: Verdict | None


class Route(Struct, frozen=True):
    """Of a route that is not implausible: how many waypoints it has, and how many are left out."""

    count: int
    jumps: int
    pending: int

    @property
    def left_out(self) -> int:
        """As the rule has it."""
        return self.jumps + self.pending


class Judged(Struct, frozen=True):
    """What the new waypoints of a stretch change.

    `verdicts` of those of its rows that may change, by index. `tail`: of the route, with the new
    ones. `is_end`: they reach to the route's end; the marker stands on the last that is OK.
    """

    verdicts: dict[int, Verdict]
    route: Route
    tail: Tail
    is_end: bool


def judge_stretch(
    rows: Sequence[Row],
    route: Route,
    tail: Tail,
    *,
    from_start: bool,
    to_end: bool,
    rule: Rule = STANDARD,
) -> Judged | None:
    """`rows`: neighbours in a route whose trip lasts, the new ones among them; `route`, `tail`:
    without the new ones. As `judge` says of the whole; None if only that can say.

    `from_start`, `to_end`: whether the stretch begins and ends with the route.
    """
    new = [index for index, row in enumerate(rows) if row.verdict is None]
    most = route.left_out + len(new)  # no chain that begins anew is longer, and lives
    first = 0 if from_start else _anchor(rows[: new[0]], most, rule)
    if first is None:
        return None
    begun = 0 if from_start else first + rule.look_back
    known, chains = (_chains(rows[first:begun], first, rule) for _ in range(2))
    links: dict[int, Link] = {link.number: link for link in chains.recent}
    end = None
    for index in range(begun, len(rows)):
        links[index] = chains.add(index, rows[index].waypoint)
        if rows[index].verdict is not None:
            known.add(index, rows[index].waypoint)
        if index >= new[-1] + rule.look_back and _is_as_before(known, chains, most):
            end = index
            break
    if end is None and not to_end:
        return None
    return _judged(rows[: len(rows) if end is None else end + 1], first, links, chains, known,
                   route, tail, is_end=end is None, rule=rule)  # fmt: skip


def _anchor(lead: Sequence[Row], most: int, rule: Rule) -> int | None:
    """The index of the first of `look_back` in a row that are kept, the last such before the new.

    Before its end no chain was longer than the kept one: that has grown, since each place in the
    stretch, by more waypoints than were left out since; and before the stretch, by more than all.
    """
    run, first = 0, None
    for index in range(len(lead) - 1, -1, -1):
        run = run + 1 if lead[index].verdict is Verdict.OK else 0
        if run == rule.look_back:
            first = index
            break
    if first is None:
        return None
    ahead = rule.look_back
    for row in reversed(lead[:first]):
        ahead += 1 if row.verdict is Verdict.OK else -1
        if ahead <= 0:
            return None
    kept = sum(row.verdict is Verdict.OK for row in lead[:first])
    return first if kept > most else None


def _chains(anchor: Sequence[Row], first: int, rule: Rule) -> Chains:
    links = [
        Link(number, row.waypoint, LONG + number, number - 1)
        for number, row in enumerate(anchor, first)
    ]
    return Chains(rule, links, links[-1] if links else None)


def _is_as_before(known: Chains, chains: Chains, most: int) -> bool:
    """But for the length of all chains that go on."""
    old, new = known.best, chains.best
    if old is None or new is None or old.number != new.number or old.length <= most:
        return False
    grown = new.length - old.length
    return new.length > most and all(
        one.number == other.number
        and other.length == one.length + (grown if one.length > most else 0)
        and (one.length > most) == (other.length > most)
        for one, other in zip(known.recent, chains.recent, strict=True)
    )


def _judged(
    rows: Sequence[Row],
    first: int,
    links: dict[int, Link],
    chains: Chains,
    known: Chains,
    route: Route,
    tail: Tail,
    *,
    is_end: bool,
    rule: Rule,
) -> Judged | None:
    """`rows` up to where all is as before, or up to the route's end."""
    assert chains.best is not None
    end = chains.best.number if is_end else None
    verdicts = _verdicts(rows, first, links, end)
    olds, news = [rows[index].verdict for index in verdicts], [*verdicts.values()]
    judged = Route(
        route.count + olds.count(None),
        route.jumps + news.count(Verdict.JUMP) - olds.count(Verdict.JUMP),
        route.pending + news.count(Verdict.PENDING) - olds.count(Verdict.PENDING),
    )
    if is_implausible(judged.jumps, judged.count - judged.pending, rule):
        return None
    moved = {rows[index].waypoint.seq: verdict for index, verdict in verdicts.items()}
    pending = [seq for seq in tail.pending if seq not in moved]
    pending += [seq for seq, verdict in moved.items() if verdict is Verdict.PENDING]
    if is_end:
        at_end = _at_end(chains, judged, len(rows))
    else:
        assert known.best is not None
        grown = chains.best.length - known.best.length
        at_end = _further_on(tail.chains, route, judged, grown)
    return Judged(
        verdicts, judged, Tail.of_chains(at_end, judged.count, pending, rule), is_end=is_end
    )


def _verdicts(
    rows: Sequence[Row], first: int, links: dict[int, Link], end: int | None
) -> dict[int, Verdict]:
    """By index, from the `first`; `end`: of the longest chain, None if it goes on as before."""
    if end is None:
        last = max(i for i in range(first, len(rows)) if rows[i].verdict is Verdict.OK)
        behind = rows[-1].verdict or Verdict.PENDING
    else:
        last, behind = end, Verdict.PENDING
    kept, number = set[int](), last
    while number in links:
        kept.add(number)
        number = links[number].before
    return {
        index: Verdict.OK if index in kept else Verdict.JUMP if index < last else behind
        for index in range(first, len(rows))
    }


def _at_end(chains: Chains, route: Route, rows: int) -> Chains:
    """With the numbers and lengths that they have in the whole route."""
    assert chains.best is not None
    shift, grown = route.count - rows, route.count - route.left_out - chains.best.length

    def placed(link: Link) -> Link:
        length = link.length + (grown if link.length >= LONG else 0)
        before = -1 if link.length == 1 else link.before + shift
        return Link(link.number + shift, link.waypoint, length, before)

    return chains.mapped(placed)


def _further_on(chains: Chains, route: Route, judged: Route, grown: int) -> Chains:
    """Those of the route's end, which is behind the stretch."""
    assert chains.best is not None
    end = chains.best.number
    added = judged.count - route.count
    moved = added - (judged.pending - route.pending)  # the end of the longest chain, by so many
    most = route.left_out + added

    def placed(link: Link) -> Link:
        number = link.number + (moved if link.number <= end else added)
        before = link.before + (moved if link.before <= end else added)
        length = link.length + (grown if link.length > most else 0)
        return Link(number, link.waypoint, length, -1 if link.before < 0 else before)

    return chains.mapped(placed)
