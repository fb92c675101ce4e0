"""tracking.domain.verdicts: the fewest are left out, and one at a time is all at once."""

from cmath import rect
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings

from tests.simulated import Spot, at, moved, route_of, routes, straight, trips
from tracking.domain.hops import Recorded
from tracking.domain.verdicts import (
    STANDARD,
    Judgement,
    Rule,
    Verdict,
    all_possible,
    final,
    is_possible,
    judge,
)

# Never implausible, so that small examples show what the rule leaves out.
WHATEVER = Rule(most_left_out=1.0)


def fewest_left_out(route: list[Recorded], rule: Rule) -> int:
    """By trying all."""
    placed = [w for w in route if w[2:] != (0.0, 0.0)]
    return next(
        count
        for count in range(len(placed) + 1)
        for kept in combinations(placed, len(placed) - count)
        if all_possible(kept, rule)
    )


@settings(max_examples=200, deadline=None)
@given(routes())
def test_the_fewest_are_left_out_and_the_rest_is_possible(route: list[Recorded]) -> None:
    judgement = judge(route, WHATEVER)
    assert judgement.left_out == fewest_left_out(route, WHATEVER)
    flagged = judgement.verdicts
    no_position = {w.seq for w in route if w[2:] == (0.0, 0.0)}
    assert {s for s, v in flagged.items() if v is Verdict.NULL_ISLAND} == no_position
    assert len(flagged) == judgement.left_out + len(no_position)
    kept = [w for w in route if w.seq not in flagged]
    assert all_possible(kept, WHATEVER)
    last = max((w.seq for w in kept), default=0)
    jumps = {s: v for s, v in flagged.items() if v is not Verdict.NULL_ISLAND}
    assert all((v is Verdict.PENDING) == (s > last) for s, v in jumps.items())


def test_of_two_that_exclude_each_other_the_one_nearer_to_the_rest_is_kept() -> None:
    """Both can reach what follows; at the end the earlier one is kept, since nothing follows."""
    first, second = at(1, 0, Spot(0, 0)), at(2, 5, Spot(400, 0))
    following = [at(n, 5.0 * n, Spot(200, 0)) for n in range(3, 9)]
    assert judge([first, second, *following]).verdicts == {1: Verdict.JUMP}
    yesterdays = [at(n, 5.0 * n, Spot(90_000, 0)) for n in (-3, -2, -1)]
    jumps = dict.fromkeys((-3, -2, -1, 1), Verdict.JUMP)
    assert judge([*yesterdays, first, second, *following], WHATEVER).verdicts == jumps
    before = [at(n, 5.0 * n - 30, Spot(200, 0)) for n in range(-5, 1)]
    assert judge([*before, first, second]).verdicts == {2: Verdict.PENDING}


def test_more_than_a_fifth_is_implausible_and_flags_nobody() -> None:
    route = straight(20)
    bad = [moved(w, 0, 5000 * (w.seq % 4 == 2)) for w in route]
    assert judge(bad).left_out == 5
    assert judge(bad) == Judgement({}, 5, True)
    bad[1] = route[1]
    assert judge(bad) == Judgement(dict.fromkeys((6, 10, 14, 18), Verdict.JUMP), 4, False)


def test_at_the_end_of_a_trip_pending_is_a_jump() -> None:
    pending = {3: Verdict.JUMP, 9: Verdict.PENDING, 1: Verdict.NULL_ISLAND}
    assert final(pending) == {3: Verdict.JUMP, 9: Verdict.JUMP, 1: Verdict.NULL_ISLAND}


def test_a_hop_is_possible_up_to_its_speed_and_the_error_of_a_phone() -> None:
    here = at(1, 0, Spot(0, 0))
    assert is_possible(here, at(2, 6, Spot(0, 349.9)))  # 250 m at 150 km/h, and 100
    assert not is_possible(here, at(2, 6, Spot(0, 350.1)))


def spoiled(route: list[Recorded], kind: str, random: Random) -> dict[int, Recorded]:
    """What the receiver says instead, by index."""

    def off(index: int, nearest: float, farthest: float) -> Recorded:
        far = rect(random.uniform(nearest, farthest), random.uniform(0, 6.28))
        return moved(route[index], far.real, far.imag)

    inside = random.randrange(5, len(route) - 9)
    match kind:
        case "nothing":
            return {}
        case "one far off":
            return {inside: off(inside, 2000, 50_000)}
        case "one 500 to 800 m off":
            return {inside: off(inside, 500, 800)}
        case "four in a row":
            there = off(inside, 2000, 50_000)
            east, north = (there[2] - route[inside][2], there[3] - route[inside][3])
            return {
                i: route[i]._replace(longitude=route[i][2] + east, latitude=route[i][3] + north)
                for i in range(inside, inside + 4)
            }
        case "the first":
            return {0: off(0, 2000, 50_000)}
        case "the last":
            return {len(route) - 1: off(-1, 2000, 50_000)}
    chosen = random.sample(range(len(route)), len(route) // 10)
    return {i: off(i, 2000, 50_000) for i in chosen}


@pytest.mark.parametrize(
    "kind",
    ["nothing", "one far off", "one 500 to 800 m off", "four in a row", "the first", "the last",
     "a tenth scattered"],
)  # fmt: skip
def test_every_wrong_one_of_simulated_trips_is_found_and_no_good_one(kind: str) -> None:
    wrong = found = good_flagged = 0
    for number, trip in enumerate(trips(40)):
        route = route_of(trip)
        wrongs = spoiled(route, kind, Random(number))
        told = [wrongs.get(index, waypoint) for index, waypoint in enumerate(route)]
        flagged = judge(told, STANDARD).verdicts.keys()
        wrong += len(wrongs)
        found += len(flagged & {route[i].seq for i in wrongs})
        good_flagged += len(flagged - {route[i].seq for i in wrongs})
    assert good_flagged == 0
    assert found == wrong


def test_a_chain_goes_on_however_long_a_phone_was_wrong() -> None:
    route = straight(340)
    bad = [moved(w, 0, 400_000 * (200 < w.seq <= 240)) for w in route]
    assert judge(bad[:240]).verdicts == dict.fromkeys(range(201, 241), Verdict.PENDING)
    for count in (241, 340):
        assert judge(bad[:count]).verdicts == dict.fromkeys(range(201, 241), Verdict.JUMP)
