"""tracking.domain.stretches: a stretch says of late waypoints what the whole route says."""

from collections import Counter
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.simulated import moved, straight
from tracking.domain.hops import Recorded
from tracking.domain.stretches import Judged, Route, Row, judge_stretch
from tracking.domain.tails import Tail
from tracking.domain.verdicts import Rule, Verdict, judge

FAR = 20_000.0  # metres: not to be reached within minutes


@st.composite
def routes(draw: st.DrawFn) -> list[Recorded]:
    """Straight on, with single jumps, runs that are elsewhere, and slow ways to elsewhere and back
    in one jump.
    """
    parts = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("good", "good", "jumps", "elsewhere", "away")),
                st.integers(1, 14),
                st.sampled_from((-FAR, 400.0, FAR)),
            ),
            min_size=1,
            max_size=7,
        )
    )
    offs: list[float] = []
    for kind, count, off in parts:
        if kind == "jumps":
            offs += [off * (n % 3 == 1) for n in range(count)]
        elif kind == "away":
            offs += [250.0 * n for n in range(count)]
        else:
            offs += [off * (kind == "elsewhere")] * count
    return [moved(w, 0, off) for w, off in zip(straight(len(offs)), offs, strict=True)]


def told(
    route: list[Recorded], late: set[int], lead: int, rest: int, rule: Rule
) -> tuple[Judged | None, list[Row]]:
    """Of a route to which those at the indexes `late` are added, from a part of it."""
    stored = [w for index, w in enumerate(route) if index not in late]
    judgement = judge(stored, rule)
    known = Counter(judgement.verdicts.values())
    first, last = max(min(late) - lead, 0), min(max(late) + rest, len(route) - 1)
    rows = [
        Row(route[i], None if i in late else judgement.verdicts.get(route[i].seq, Verdict.OK))
        for i in range(first, last + 1)
    ]
    before = Route(len(stored), known[Verdict.JUMP], known[Verdict.PENDING])
    return judge_stretch(rows, before, Tail.of(stored, rule), from_start=first == 0,
                         to_end=last == len(route) - 1, rule=rule), rows  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(routes(), st.integers(2, 5), st.integers(0, 40), st.integers(0, 20), st.integers(1, 3),
       st.sampled_from((1.0, 0.3)), st.integers(0, 1 << 32))  # fmt: skip
def test_a_stretch_says_what_the_whole_route_says(
    route: list[Recorded], look_back: int, lead: int, rest: int, added: int, most: float, seed: int
) -> None:
    random, rule = Random(seed), Rule(look_back=look_back, most_left_out=most)
    place = random.randrange(len(route))
    near = [*range(max(place - 6, 0), min(place + 7, len(route)))]
    late = set(random.sample(near, min(added, len(near))))
    if judge([w for i, w in enumerate(route) if i not in late], rule).implausible:
        return
    found, rows = told(route, late, lead, rest, rule)
    event("said" if found else "not said")
    if found is None:
        return
    whole = judge(route, rule)
    assert not whole.implausible
    for index, row in enumerate(rows):
        verdict = found.verdicts.get(index, row.verdict)
        assert verdict is whole.verdicts.get(row.waypoint.seq, Verdict.OK), row
    known = Counter(whole.verdicts.values())
    assert found.route == Route(len(route), known[Verdict.JUMP], known[Verdict.PENDING])
    inside = {row.waypoint.seq for row in rows}
    others = {s: v for s, v in whole.verdicts.items() if s not in inside}
    stored = judge([w for i, w in enumerate(route) if i not in late], rule).verdicts
    assert others == {s: v for s, v in stored.items() if s not in inside}, "as before elsewhere"
    _goes_on_alike(found.tail, Tail.of(route, rule), route[-1], random)


def _goes_on_alike(one: Tail, other: Tail, last: Recorded, random: Random) -> None:
    """Whatever follows; the one may be at a loss less often."""
    assert (one.left_out, one.implausible) == (other.left_out, other.implausible)
    assert sorted(one.pending) == sorted(other.pending)
    for number in range(1, 12):
        off = random.choice((0.0, 0.0, 400.0, FAR, -FAR))
        following = moved(last, 0, off)._replace(seq=last.seq + number, at_s=last.at_s + 5 * number)
        assert one.append(following) == other.append(following)


def test_of_a_long_route_a_hundred_rows_tell_of_a_late_one() -> None:
    route = straight(3000)
    for number in range(50, 3000, 100):
        route[number] = moved(route[number], 0, FAR)
    for late in ({1480}, {1449}, {1451}, {2990}, {1480, 1490}):
        found, rows = told(route, late, 110, 45, Rule())
        assert found is not None, late
        assert len(rows) < 170
        assert found.route == Route(3000, 30, 0)


def test_it_cannot_say_where_the_longest_chain_may_have_ended_elsewhere() -> None:
    """Two phones, one of which drives away and reports twice as often, until it is silent."""
    rule, found = Rule(look_back=3, most_left_out=1.0), 0
    for behind in range(20, 60):
        route = straight(100 + 60 + behind)
        for number in range(60):
            if number % 3:
                route[100 + number] = moved(route[100 + number], 0, 200.0 * number)
        late = 100 + 60 + 5
        route[late] = moved(route[late], 0, 200.0 * 62)  # makes the other way the longest
        stored = judge([w for index, w in enumerate(route) if index != late], rule).verdicts
        whole = judge(route, rule).verdicts
        said, rows = told(route, {late}, 150, behind, rule)
        if 160 in stored and 160 not in whole:
            found += 1
            assert said is None
        elif said is not None:
            verdicts = {rows[i].waypoint.seq: v for i, v in said.verdicts.items() if v}
            assert verdicts == {s: v for s, v in whole.items() if s > 15}
    assert found
