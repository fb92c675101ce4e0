"""tracking.domain.arrivals: who waits has arrived, who drives by has not, in any order."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated import Spot, at, course_of, moved, noise, route_of, trips
from tracking.domain.arrivals import (
    NEAR_M,
    Arrival,
    News,
    Told,
    Way,
    arrival_of,
    last_word,
    news,
)
from tracking.domain.hops import Recorded

HERE = at(0, 0, Spot(0, 0))
WAY = Way("pickup", HERE.longitude, HERE.latitude, 0.0)
# Root mean square of the distance, as phones state their accuracy: 5.7 m on each axis.
NOISE_M, INTERVAL_S = 8.0, 5.0


def drive(kmh: float, start: Spot, *halts: tuple[Spot, float]) -> list[Spot]:
    """A spot every five seconds: from halt to halt in straight lines, seconds at each."""
    spots, here = [], start
    for there, seconds in halts:
        length = ((there.x - here.x) ** 2 + (there.y - here.y) ** 2) ** 0.5
        steps = max(1, round(length / (kmh / 3.6 * INTERVAL_S)))
        spots += [Spot(here.x + (there.x - here.x) * n / steps,
                       here.y + (there.y - here.y) * n / steps) for n in range(steps)]  # fmt: skip
        spots += [there] * round(seconds / INTERVAL_S)
        here = there
    return spots


def measured(spots: list[Spot], seed: int, noise_m: float = NOISE_M) -> list[Recorded]:
    errors = noise(Random(seed), noise_m / 2**0.5, INTERVAL_S)
    start = Random(-seed).uniform(0, 50)  # metres, so that runs differ in phase, too
    return [
        moved(at(n, n * INTERVAL_S, Spot(s.x + start, s.y)), *next(errors))
        if s.x < -500 else moved(at(n, n * INTERVAL_S, s), *next(errors))
        for n, s in enumerate(spots)
    ]  # fmt: skip


def fired(spots: list[Spot], runs: int = 40) -> float:
    """Share of the runs that take it for an arrival at some time, or at the end of the phase."""
    count = 0
    for seed in range(runs):
        route = measured(spots, seed)
        count += any(arrival_of(route[:n], WAY).arrived for n in range(len(route) + 1))
    return count / runs


AFAR = Spot(-900.0, 0.0)


@pytest.mark.parametrize(
    ("what", "spots", "least", "most"),
    [
        ("waits two minutes", drive(30, AFAR, (Spot(0, 0), 120)), 1, 1),
        ("address 40 m off", drive(30, AFAR, (Spot(0, 40), 120)), 1, 1),
        ("address 70 m off", drive(30, AFAR, (Spot(0, 70), 120)), 0, 0.25),
        ("drives by at 35 km/h", drive(35, AFAR._replace(y=30), (Spot(900, 30), 5)), 0, 0),
        ("drives by at 12 km/h", drive(12, AFAR._replace(y=30), (Spot(900, 30), 5)), 0, 0),
        ("red light 25 s", drive(30, AFAR, (Spot(-40, 0), 25), (Spot(900, 0), 5)), 0, 0),
        ("red light 60 s", drive(30, AFAR, (Spot(-60, 0), 60), (Spot(900, 0), 5)), 0.3, 0.8),
        ("shop 80 m away", drive(30, AFAR, (Spot(-80, 0), 300), (Spot(-900, 5), 5)), 0, 0),
        ("shop 120 m away", drive(30, AFAR, (Spot(-120, 0), 300), (Spot(-900, 5), 5)), 0, 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_who_waits_has_arrived_and_who_passes_has_not(
    what: str, spots: list[Spot], least: float, most: float
) -> None:
    share = fired(spots)
    assert least <= share <= most, what


def test_an_arrival_is_the_visits_first_waypoint_and_is_known_half_a_minute_later() -> None:
    route = measured(drive(30, AFAR, (Spot(0, 0), 120)), 1, noise_m=0)
    arrival = arrival_of(route, WAY)
    visit = arrival.arrived
    assert visit is not None
    first = next(w for w in route if abs(w.longitude - HERE.longitude) < NEAR_M / 110_540)
    assert (visit.first_seq, visit.arrived_at_s) == (first.seq, first.at_s)
    assert visit.evidence_at_s is not None
    assert 30 <= visit.evidence_at_s - visit.arrived_at_s <= 45
    assert route[visit.evidence_seq or 0].at_s == visit.evidence_at_s
    assert arrival.state == "arrived"
    assert arrival.approaching_at_s is not None
    assert 50 <= visit.arrived_at_s - arrival.approaching_at_s <= 60


def test_one_wrong_position_is_no_departure_and_two_are() -> None:
    route = measured(drive(30, AFAR, (Spot(0, 0), 300)), 1)
    route[-14] = moved(route[-14], 200, 0)
    kept = arrival_of(route, WAY)
    assert kept.state == "arrived"
    route[-13] = moved(route[-13], 200, 0)
    left = arrival_of(route[:-12], WAY)
    assert (left.state, left.arrived) == ("approaching", None)
    again = arrival_of(route, WAY).arrived
    assert again is not None
    assert kept.arrived is not None
    assert again.arrived_at_s > kept.arrived.arrived_at_s


def test_false_departures_are_rare_with_three_wrong_positions_in_ten_minutes() -> None:
    departures = 0
    for seed in range(40):
        route = measured(drive(30, AFAR, (Spot(0, 0), 600)), seed)
        begin = len(route) - 110
        for index in Random(seed).sample(range(begin, len(route)), 3):
            route[index] = moved(route[index], 200, 0)
        states = [arrival_of(route[:n], WAY).state for n in range(begin, len(route) + 1)]
        departures += sum(a == "arrived" != b for a, b in pairwise(states))
    assert departures <= 4


def test_the_phase_event_decides_which_visit_counts() -> None:
    """It came, went around the block to park, and came again."""
    twice = drive(30, AFAR, (Spot(0, 0), 120), (Spot(300, 0), 5), (Spot(0, 10), 20))
    route = measured(twice, 1)
    assert arrival_of(route, WAY).arrived is None  # the second visit is no arrival yet
    ended = Way(*(WAY.end, WAY.longitude, WAY.latitude, 0.0), route[-1].at_s)
    met = arrival_of(route, ended).arrived
    assert met is not None
    assert met.evidence_seq is None
    assert met.first_seq > len(route) - 10
    gone = route[: len(route) - 8]
    ended = Way(*(WAY.end, WAY.longitude, WAY.latitude, 0.0), gone[-1].at_s)
    earlier = arrival_of(gone, ended).arrived
    assert earlier is not None
    assert earlier.evidence_seq is not None


def test_one_waypoint_after_a_silence_does_not_confirm_a_second_visit() -> None:
    route = measured(drive(30, AFAR, (Spot(0, 0), 120), (Spot(300, 0), 5), (Spot(0, 0), 5)), 1)
    route[-1] = route[-2]._replace(seq=route[-1].seq, at_s=route[-1].at_s + 100)
    assert arrival_of(route[:-20], WAY).arrived is not None
    assert arrival_of(route, WAY).arrived is None
    more = route[-1]._replace(seq=999, at_s=route[-1].at_s + 5)
    assert arrival_of([*route, more], WAY).arrived is not None


def test_who_was_near_once_and_stands_farther_off_has_not_arrived() -> None:
    route = measured(drive(30, AFAR, (Spot(-55, 0), 5), (Spot(-75, 0), 300)), 1, noise_m=0)
    assert arrival_of(route, WAY).arrived is None


def test_approaching_is_told_once_even_if_what_showed_it_was_flagged_since() -> None:
    items, state = news(Told(), Arrival("approaching", 3, 15.0))
    assert [item.kind for item in items] == ["approaching"]
    assert news(state, Arrival()) == ([], state)


def test_who_was_never_away_has_not_arrived() -> None:
    route = measured(drive(30, Spot(-100, 0), (Spot(0, 0), 300)), 1)
    route[5] = moved(route[5], 400, 0)
    assert arrival_of(route, WAY).arrived is None
    assert arrival_of(route, WAY).state == "approaching"


def test_what_lies_outside_the_phase_does_not_count() -> None:
    route = measured(drive(30, AFAR, (Spot(0, 0), 300), (Spot(900, 0), 5)), 1)
    before = Way("pickup", WAY.longitude, WAY.latitude, 0.0, 60.0)
    behind = Way("pickup", WAY.longitude, WAY.latitude, route[-1].at_s + 1)
    assert arrival_of(route, behind) == Arrival()
    assert arrival_of(route, before).arrived is None


SCENES: list[Callable[[], list[Spot]]] = [
    lambda: drive(30, AFAR, (Spot(0, 0), 120)),
    lambda: drive(30, AFAR, (Spot(0, 0), 60), (Spot(400, 0), 10), (Spot(0, 10), 60)),
    lambda: drive(30, AFAR, (Spot(-70, 0), 120), (Spot(0, 0), 20), (Spot(500, 0), 30)),
]


def told(batches: Iterator[list[Recorded]], way: Way) -> list[News]:
    """Everything that is told while the waypoints come in batches."""
    known: list[Recorded] = []
    items, state = [], Told()
    for batch in batches:
        known = sorted([*known, *batch], key=lambda w: (w.at_s, w.seq))
        new, state = news(state, arrival_of(known, way))
        items += new
    return items


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SCENES), st.integers(0, 99), st.randoms(use_true_random=False),
       st.booleans())  # fmt: skip
def test_the_last_word_is_the_same_for_any_order_and_any_cut(
    scene: Callable[[], list[Spot]], seed: int, random: Random, ended: bool
) -> None:
    route = measured(scene(), seed)
    way = Way("dropoff", *HERE[2:], 0.0, route[-3].at_s if ended else None)
    shuffled = random.sample(route, len(route)) if random.random() < 0.5 else route
    cuts = sorted(random.sample(range(len(route)), random.randint(0, 9)))
    batches = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(route)], strict=True)]
    items = told(iter(batches), way)
    whole = arrival_of(route, way).arrived
    assert last_word(items) == (whole and whole.arrived_at_s)
    assert sum(item.kind == "approaching" for item in items) <= 1
    for number, item in enumerate(items):
        if item.kind == "corrected":
            assert item.replaces == last_word(items[:number])


def test_a_correction_says_what_it_replaces_and_withdraws_what_was_no_arrival() -> None:
    route = measured(drive(30, AFAR, (Spot(0, 0), 60), (Spot(500, 0), 20)), 3)
    items = told(iter([route[n : n + 1] for n in range(len(route))]), WAY)
    approaching, arrived, withdrawn = items
    assert (approaching.kind, arrived.kind, withdrawn.kind) == (
        "approaching",
        "arrived",
        "corrected",
    )
    assert arrived.visit is not None
    assert (withdrawn.visit, withdrawn.replaces) == (None, arrived.visit.arrived_at_s)


def test_simulated_runners_arrive_when_they_do() -> None:
    errors = []
    for trip in trips(30):
        course = course_of(trip)
        here = course.pickup
        way = Way("pickup", here.longitude, here.latitude, 0.0, course.picked_up_s)
        visit = arrival_of(route_of(trip), way).arrived
        assert visit is not None
        stood = next(
            n for n in range(9999) if course.at(float(n)) == course.at(course.picked_up_s - 1)
        )
        errors.append(visit.arrived_at_s - stood)
    assert min(errors) > -15
    assert max(errors) <= 5
