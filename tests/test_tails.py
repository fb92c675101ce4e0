"""tracking.domain.tails: one at a time is all at once, in any order."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated import Spot, at, moved, routes, straight
from tracking.domain.hops import Recorded
from tracking.domain.tails import Tail
from tracking.domain.verdicts import Rule, Verdict, changes, judge


def one_at_a_time(route: list[Recorded], rule: Rule) -> int:
    """Compares with `judge` after each; how often the tail alone could not say."""
    tail, verdicts, unsaid = Tail(rule), dict[int, Verdict](), 0
    for count in range(1, len(route) + 1):
        whole = judge(route[:count], rule)
        revision = tail.append(route[count - 1])
        assert (tail.left_out, tail.implausible) == (whole.left_out, whole.implausible)
        if revision is None:
            unsaid += 1
        else:
            assert revision.changed == changes(verdicts, whole.verdicts)
            assert revision.shown == (route[count - 1].seq not in whole.verdicts)
        verdicts = whole.verdicts
    return unsaid


@settings(max_examples=150, deadline=None)
@given(routes(most=40), st.sampled_from([1.0, 0.4, 0.2]), st.integers(2, 30), st.integers(0, 4))
def test_one_at_a_time_is_all_at_once(
    route: list[Recorded], most_left_out: float, look_back: int, few: int
) -> None:
    rule = Rule(most_left_out=most_left_out, look_back=look_back, few_left_out=few)
    unsaid = one_at_a_time(route, rule)
    if most_left_out == 1.0 and len(route) <= look_back:
        assert unsaid == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 12), st.lists(st.builds(Spot, st.floats(0, 900), st.floats(0, 900)),
                                    max_size=9))  # fmt: skip
def test_the_tail_of_a_possible_route_needs_no_more_than_its_last_waypoints(
    count: int, following: list[Spot]
) -> None:
    good = straight(count)
    rule = Rule(most_left_out=1.0, look_back=5)
    short, whole = Tail.of_possible(good[-5:], count, rule), Tail.of(good, rule)
    for seq, spot in enumerate(following, count + 1):
        waypoint = at(seq, 5.0 * seq, spot)
        assert short.append(waypoint) == whole.append(waypoint)
        assert short.left_out == whole.left_out


@settings(max_examples=60, deadline=None)
@given(routes(most=20), st.randoms(use_true_random=False))
def test_any_order_of_arrival_ends_with_the_same_verdicts(
    route: list[Recorded], random: Random
) -> None:
    """As ingest does it: a tail for what comes in order, the whole route for what comes late."""
    stored: list[Recorded] = []
    tail, verdicts = Tail(), dict[int, Verdict]()
    for waypoint in random.sample(route, len(route)):
        is_newest = not stored or waypoint.seq > stored[-1].seq
        stored = sorted([*stored, waypoint])
        revision = tail.append(waypoint) if is_newest else None
        if not is_newest:
            tail = Tail.of(stored)
        changed = revision.changed if revision else changes(verdicts, judge(stored).verdicts)
        verdicts = {s: v for s, v in (verdicts | changed).items() if v is not Verdict.OK}
        assert verdicts == judge(stored).verdicts
    assert verdicts == judge(route).verdicts


def test_the_newest_impossible_one_is_pending_until_something_follows() -> None:
    route = straight(20)
    tail = Tail.of(route[:10])
    bad = [moved(w, 0, 5000) for w in route[10:12]]
    for waypoint in bad:
        revision = tail.append(waypoint)
        assert revision is not None
        assert revision.changed == {waypoint.seq: Verdict.PENDING}
        assert not revision.shown
    revision = tail.append(route[12])
    assert revision is not None
    assert revision.changed == {11: Verdict.JUMP, 12: Verdict.JUMP}
    assert revision.shown


def test_what_was_pending_is_good_when_more_follows_it_than_went_before() -> None:
    """The receiver's first positions were those of yesterday."""
    route = [*(moved(w, 0, 9000) for w in straight(3)), *straight(20)[3:]]
    tail, seen = Tail(Rule(most_left_out=0.5)), []
    for waypoint in route[:8]:
        revision = tail.append(waypoint)
        seen.append(revision and (revision.changed, revision.shown))
    assert seen[3] == ({4: Verdict.PENDING}, False)
    assert seen[5] == ({6: Verdict.PENDING}, False)
    yesterdays = dict.fromkeys((1, 2, 3), Verdict.JUMP)
    assert seen[6] == (yesterdays | dict.fromkeys((4, 5, 6), Verdict.OK), True)
