"""tracking.domain.stays: what stands stays, whatever the phone's error; nothing else does."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from statistics import mean, median

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.simulated import Spot, at, course_of, moved, noise, returning, route_of, trips
from tracking.domain.hops import Recorded, is_within, metres
from tracking.domain.routes import WGS84
from tracking.domain.stays import standing, stays, stops


def at_rest(seconds: float, noise_m: float, interval_s: float, seed: int) -> list[Recorded]:
    errors = noise(Random(seed), noise_m, interval_s)
    count = int(seconds / interval_s) + 1
    return [at(n + 1, n * interval_s, Spot(*next(errors))) for n in range(count)]


def geodesic(one: Recorded, other: Recorded) -> float:
    return float(WGS84.inv(*one[2:], *other[2:])[2])


def middle(waypoints: Sequence[Recorded]) -> Recorded:
    x, y = median(w.longitude for w in waypoints), median(w.latitude for w in waypoints)
    return Recorded(0, 0, x, y)


def is_stay(first: Recorded, last: Recorded, least: float) -> bool:
    seconds = last.at_s - first.at_s
    return seconds >= least and is_within(first, last, 1.0 * seconds)


def is_lost(route: list[Recorded], begin: int, end: int) -> bool:
    """Whether nobody knows, somewhere between these two, which way it went."""
    waits = [b.at_s - a.at_s for a, b in pairwise(route)]
    longest = max([60.0, *([5 * median(waits)] if waits else [])])
    return any(
        waits[n] > longest and not is_within(route[n], route[n + 1], 100) for n in range(begin, end)
    )


def by_definition(route: list[Recorded], radius: float, least: float) -> list[tuple[int, int]]:
    """First and last index of each stay, by trying every run that could be one."""
    runs = [
        (i, max(j for j in range(i, len(route)) if not is_lost(route, i, j)
                and all(is_within(route[i], w, radius) for w in route[i : j + 1])))
        for i in range(len(route))
    ]  # fmt: skip
    pieces: list[tuple[int, int]] = []
    for i, j in runs:
        if is_stay(route[i], route[j], least) and (not pieces or i > pieces[-1][1]):
            pieces.append((i, j))
    joined = pieces[:1]
    for (a, b), (c, d) in pairwise(pieces):
        apart = metres(middle(route[a : b + 1]), middle(route[c : d + 1]))
        assume(abs(apart - radius / 2) > 1e-6)  # where the last bit of a median would decide
        if c - b <= 2 and apart <= radius / 2 and not is_lost(route, b, c):
            joined[-1] = joined[-1][0], d
        else:
            joined.append((c, d))
    return joined


STEPS = st.tuples(st.sampled_from((1.0, 5.0, 5.0, 30.0, 400.0)), st.floats(-25, 25),
                  st.floats(-25, 25), st.integers(0, 5))  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30), st.sampled_from([(15.0, 10.0), (50.0, 120.0), (20.0, 0.0)]))
def test_stays_are_what_their_definition_says(
    steps: list[tuple[float, float, float, int]], parameters: tuple[float, float]
) -> None:
    route, x, y, second = [], 0.0, 0.0, 0.0
    for seq, (seconds, east, north, motion) in enumerate(steps, 1):
        second += seconds
        if motion == 0:  # else it stands, a little off
            x, y = x + 4 * east, y + 4 * north
        route.append(at(seq, second, Spot(x + east / 4, y + north / 4)))
    found = [(s.first_seq - 1, s.last_seq - 1) for s in stays(route, *parameters)]
    assert found == by_definition(route, *parameters)


@settings(max_examples=200, deadline=None)
@given(returning(), st.sampled_from([(15.0, 10.0), (50.0, 120.0), (50.0, 0.0)]))
def test_stays_of_a_route_that_comes_back_are_what_their_definition_says(
    route: list[Recorded], parameters: tuple[float, float]
) -> None:
    found = [(s.first_seq - 1, s.last_seq - 1) for s in stays(route, *parameters)]
    assert found == by_definition(route, *parameters)
    assert not any(is_lost(route, begin, end) for begin, end in found)


def test_a_silence_during_which_it_was_elsewhere_is_no_stop() -> None:
    """Ten minutes at home, forty of which one position 3 km away is known, ten at home."""
    home = at_rest(600, 4.0, 5.0, 1)
    away = moved(home[0], 3000, 0)._replace(seq=500, at_s=1800.0)
    back = [w._replace(seq=w.seq + 1000, at_s=w.at_s + 3000) for w in home]
    assert [(s.from_s, s.to_s) for s in stops([*home, away, *back])] == [(0, 600), (3000, 3600)]


def test_a_gap_that_moved_ends_a_stay_within_its_radius() -> None:
    """Just more than 100 m apart, and both within 60 m of the first one."""
    route = [at(n, 20.0 * n, Spot(-x, 0)) for n, x in enumerate((0, 20, 40, 51), 1)]
    route += [at(n, 200 + 20.0 * n, Spot(x, 0)) for n, x in enumerate((51, 40, 20, 0), 5)]
    assert [(s.first_seq, s.last_seq) for s in stays(route, 60.0, 15.0)] == [(1, 4), (5, 8)]


@pytest.mark.parametrize("interval_s", [1, 5, 10])
def test_an_hour_at_rest_is_an_hour_of_standing_and_one_stop(interval_s: float) -> None:
    for seed in range(5):
        route = at_rest(3600, 4.0, interval_s, seed)
        assert sum(stay.seconds for stay in standing(route)) == pytest.approx(3600, rel=0.005)
        (stop,) = stops(route)
        assert (stop.from_s, stop.to_s) == (0, 3600)
        assert geodesic(at(0, 0, Spot(0, 0)), Recorded(0, 0, stop.longitude, stop.latitude)) < 3


def test_one_position_elsewhere_does_not_cut_a_stop_in_two() -> None:
    route = at_rest(1200, 4.0, 5.0, 1)
    route[100] = moved(route[100], 80, 0)
    assert [stop.seconds for stop in stops(route)] == [1200]
    route[101] = moved(route[101], 80, 0)
    assert len(stops(route)) == 2


def test_a_silence_without_motion_is_part_of_the_stop() -> None:
    route = at_rest(1200, 4.0, 5.0, 1)
    quiet = [*route[:60], *route[200:]]
    assert [stop.seconds for stop in stops(quiet)] == [1200]


def test_a_walk_around_the_block_is_no_stop() -> None:
    corners = [Spot(0, 0), Spot(80, 0), Spot(80, 80), Spot(0, 80)]
    walk = []
    for seq in range(200):  # four minutes a lap, at 4.8 km/h
        (a, b), share = (corners[seq // 12 % 4], corners[(seq // 12 + 1) % 4]), seq % 12 / 12
        walk.append(at(seq, 5.0 * seq, Spot(a.x + (b.x - a.x) * share, a.y + (b.y - a.y) * share)))
    assert stops(walk) == []


def test_the_place_is_right_across_the_antimeridian() -> None:
    route = [Recorded(n, 30.0 * n, 180 - 1e-5 if n % 3 else -180 + 1e-5, 10) for n in range(9)]
    (stop,) = stops(route)
    assert stop.longitude == pytest.approx(180 - 1e-5)


def test_who_walks_with_a_phone_that_errs_hardly_stands() -> None:
    errors = noise(Random(1), 3.0, 5.0)
    walk = [moved(at(n, 5.0 * n, Spot(5 * n * 4.8 / 3.6, 0)), *next(errors)) for n in range(720)]
    assert sum(stay.seconds for stay in standing(walk)) < 0.15 * 3600
    assert stops(walk) == []


@pytest.mark.parametrize(("noise_m", "wrong_s"), [(0, 8), (3, 8), (6, 8), (10, 15)])
def test_standing_seconds_of_simulated_trips_are_those_of_the_truth(
    noise_m: float, wrong_s: float
) -> None:
    errors = []
    for trip in trips(25):
        course, step = course_of(trip), 0.5
        moments = [n * step for n in range(int(course.delivered_s / step))]
        truth = sum(step for moment in moments if course.at(moment).speed_kmh < 0.5)
        errors.append(sum(s.seconds for s in standing(route_of(trip, noise_m))) - truth)
    assert abs(mean(errors)) < wrong_s
