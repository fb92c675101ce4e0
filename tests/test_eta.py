"""tracking.domain.eta: four of five arrivals lie in the band, at every distance."""

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.trips import Plan, trips_of
from tests.simulated import START_NS, Spot, at, course_of, route_of, straight
from tracking.domain.arrivals import Way, arrival_of
from tracking.domain.eta import (
    BANDS_M,
    FEWEST,
    SAMPLES,
    Eta,
    History,
    NoEta,
    Phase,
    Sample,
    band_of,
    conformal_ranks,
    distance_m,
    estimate,
    eta_of,
    is_news,
    phase_of,
    samples_of,
)
from tracking.domain.hops import Recorded
from tracking.domain.routed import Answer

HERE = at(0, 0, Spot(0, 0))
WAY = Way("dropoff", HERE.longitude, HERE.latitude, 0.0)


def filled(count: int = 100, phase: Phase = "to_dropoff") -> History:
    """Ratios of 1, 2, … `count` hundredths of a second a metre in every band."""
    history = History()
    for metres in (100.0, *BANDS_M):
        for ratio in range(1, count + 1):
            history.add(Sample(phase, metres, metres * ratio / 100))
    return history


def test_of_a_way_the_first_waypoint_within_each_band_is_a_sample() -> None:
    spots = [3000, 2500, 1900, 1100, 990, 1100, 600, 480, 300, 240, 100, 40]
    route = [at(n, 10.0 * n, Spot(0, float(y))) for n, y in enumerate(spots)]
    samples = samples_of(route, WAY, 110.0)
    assert [(s.phase, round(s.metres), s.seconds) for s in samples] == [
        ("to_dropoff", 3000, 110), ("to_dropoff", 1900, 90), ("to_dropoff", 990, 70),
        ("to_dropoff", 480, 40), ("to_dropoff", 240, 20),
    ]  # fmt: skip
    pickup = Way("pickup", HERE.longitude, HERE.latitude, 75.0)
    assert [s.phase for s in samples_of(route, pickup, 95.0)] == ["to_pickup"] * 2
    assert samples_of([HERE], WAY, 10.0) == []  # at the place itself there is no ratio


@given(st.lists(st.floats(0.01, 5), max_size=80), st.integers(1, 40))
def test_of_each_phase_and_band_the_last_ones_are_kept_in_order(
    ratios: list[float], limit: int
) -> None:
    history = History(limit)
    for ratio in ratios:
        history.add(Sample("to_pickup", 1.0, ratio))
    assert list(history.ratios("to_pickup", 0)) == sorted(ratios[-limit:])
    assert list(history.ratios("to_pickup", 1)) == list(history.ratios("to_dropoff", 0)) == []


@pytest.mark.parametrize("count", [30, 39, 49, 100, 500])
def test_a_further_value_falls_between_the_ranks_four_times_of_five(count: int) -> None:
    low, high = conformal_ranks(count, 0.8)
    assert 1 <= low < high <= count
    assert (high - low) / (count + 1) >= 0.8
    if low > 1 and high < count:
        assert (high - low - 2) / (count + 1) < 0.8
    dice = Random(count)
    inside = 0
    for _ in range(3000):
        *known, further = (dice.random() for _ in range(count + 1))
        ordered = sorted(known)
        inside += ordered[low - 1] <= further <= ordered[high - 1]
    assert inside / 3000 == pytest.approx((high - low) / (count + 1), abs=0.03)


def test_an_eta_is_the_distance_times_what_others_took() -> None:
    eta = estimate(filled(99), "to_dropoff", 1500.0, 10_000.0)
    assert isinstance(eta, Eta)
    assert eta.arrives_at == pytest.approx(10_000 + 1500 * 0.5)
    assert eta.earliest == pytest.approx(10_000 + 1500 * 0.1)
    assert eta.latest == pytest.approx(10_000 + 1500 * 0.9)
    assert (eta.method, eta.samples) == ("distance", 99)


@pytest.mark.parametrize(("count", "enough"), [(FEWEST - 1, False), (FEWEST, True)])
def test_without_enough_history_there_is_none(count: int, enough: bool) -> None:
    assert isinstance(estimate(filled(count), "to_dropoff", 700, 0), Eta) == enough
    assert estimate(filled(99), "to_pickup", 700, 0) == NoEta("not_enough_history")


def test_there_is_none_without_a_destination_after_the_arrival_or_in_silence() -> None:
    history, last = filled(), straight(3)[-1]
    assert isinstance(eta_of(history, WAY, last, fresh=True, arrived=False), Eta)
    ended = Way("dropoff", HERE.longitude, HERE.latitude, 0.0, 9.0)
    reasons = [
        eta_of(history, None, last, fresh=True, arrived=False),
        eta_of(history, ended, last, fresh=False, arrived=True),
        eta_of(history, WAY, last, fresh=False, arrived=True),
        eta_of(history, WAY, last, fresh=False, arrived=False),
        eta_of(history, WAY, None, fresh=True, arrived=False),
        eta_of(History(), WAY, last, fresh=True, arrived=False),
    ]
    said = [reason.reason for reason in reasons if isinstance(reason, NoEta)]
    assert said == ["no_destination", "ended", "arrived", "stale", "stale", "not_enough_history"]


def routed_too(count: int, ratio: float = 2.0) -> History:
    """As `filled`; and of so many a router was asked, who was too fast by that factor."""
    history = filled()
    for number in range(count):
        took = 100.0 * ratio * (0.9 + 0.2 * number / count)
        history.add(Sample("to_dropoff", 700.0, 350.0, 100.0, took))
    return history


def start_of(answer_s: float, spot: Spot) -> Answer:
    return Answer(WAY, at(7, answer_s, spot), 60.0)


def test_a_routers_answer_is_calibrated_by_the_same_table() -> None:
    answer, last = start_of(1000.0, Spot(0, 700)), at(9, 1030.0, Spot(0, 600))
    eta = eta_of(routed_too(40), WAY, last, fresh=True, arrived=False, answer=answer)
    assert isinstance(eta, Eta)
    assert (eta.method, eta.samples) == ("router", 40)
    assert eta.arrives_at == pytest.approx(1000 + 2 * 60, abs=2)
    assert eta.earliest == pytest.approx(1000 + 2 * 60 * 0.9, abs=4)
    assert eta.latest == pytest.approx(1000 + 2 * 60 * 1.1, abs=4)


@pytest.mark.parametrize(
    ("count", "asked_s", "spot", "way"),
    [
        (FEWEST - 1, 1000.0, Spot(0, 700), WAY),  # too little is known of it
        (40, 909.0, Spot(0, 700), WAY),  # too old
        (40, 1000.0, Spot(450, 850), WAY),  # too far from here
        (40, 1031.0, Spot(0, 700), WAY),  # of a waypoint that has left the route
        (40, 1000.0, Spot(0, 700), Way("dropoff", HERE.longitude, HERE.latitude + 0.001, 0.0)),
        (40, 1000.0, Spot(0, 700), Way("pickup", HERE.longitude, HERE.latitude, 0.0)),
        (40, 1000.0, Spot(0, 200), WAY),  # no history at that distance
    ],
)
def test_without_a_good_answer_the_distance_tells(
    count: int, asked_s: float, spot: Spot, way: Way
) -> None:
    history, last = routed_too(count), at(9, 1030.0, Spot(0, 600))
    answer = Answer(way, at(7, asked_s, spot), 60.0)
    found = eta_of(history, WAY, last, fresh=True, arrived=False, answer=answer)
    assert isinstance(found, Eta)
    assert found == eta_of(history, WAY, last, fresh=True, arrived=False)
    assert found.method == "distance"


def test_who_should_have_arrived_and_has_not_is_told_by_where_he_is() -> None:
    history, last = routed_too(40, ratio=0.4), at(9, 1030.0, Spot(0, 600))
    answer = start_of(1000.0, Spot(0, 700))  # by then he would have been there for six seconds
    found = eta_of(history, WAY, last, fresh=True, arrived=False, answer=answer)
    assert isinstance(found, Eta)
    assert found.method == "distance"


@pytest.mark.parametrize(
    ("told", "new", "expected"),
    [
        (None, Eta(900, 800, 1000, "distance", 40), True),
        (Eta(300, 0, 0, "distance", 40), Eta(360, 0, 0, "distance", 41), False),
        (Eta(300, 0, 0, "distance", 40), Eta(361, 0, 0, "distance", 40), True),
        (Eta(361, 0, 0, "distance", 40), Eta(300, 0, 0, "distance", 40), True),
        (Eta(1890, 0, 0, "distance", 40), Eta(2000, 0, 0, "distance", 40), False),  # 110 of 2000 s
        (Eta(1799, 0, 0, "distance", 40), Eta(2000, 0, 0, "distance", 40), True),
        (Eta(300, 0, 0, "distance", 40), NoEta("arrived"), True),
        (NoEta("stale"), NoEta("stale"), False),
        (NoEta("stale"), NoEta("ended"), True),
    ],
)
def test_a_changed_eta_is_told_when_it_differs_enough(
    told: Eta | NoEta | None, new: Eta | NoEta, expected: bool
) -> None:
    assert is_news(told, new, 0.0) == expected


def test_bands_begin_where_they_say() -> None:
    assert [band_of(m) for m in (0, 249.9, 250, 7999, 8000, 1e6)] == [0, 0, 1, 5, 6, 6]


def ended_ways(seed: int) -> list[tuple[float, Way, list[Recorded]]]:
    """Of a day of simulated runners, streets with red lights and rush hours, by arrival."""
    plan = Plan(seed=seed, runners=12, interval_s=10.0, start_ns=START_NS, rush_hours=True)
    ways = []
    for trip in (t for runner in range(12) for t in islice(trips_of(plan, runner), 50)):
        start, course = trip.accepted_ns / 1e9, course_of(trip)
        picked_up, ended = start + course.picked_up_s, start + course.delivered_s
        route = [w._replace(at_s=w.at_s + start) for w in route_of(trip)]
        here, there = course.pickup, course.dropoff
        for way in (
            Way("pickup", here.longitude, here.latitude, start, picked_up),
            Way("dropoff", there.longitude, there.latitude, picked_up, ended),
        ):
            visit = arrival_of(route, way).arrived
            assert visit is not None
            ways.append((visit.arrived_at_s, way, route))
    return sorted(ways, key=lambda item: item[0])


def test_the_band_holds_four_of_five_arrivals_at_every_distance() -> None:
    history, asked, held = History(), Counter[int](), Counter[int]()
    for arrived_at, way, route in ended_ways(seed=1):
        under_way = [w for w in route if way.from_s <= w.at_s < arrived_at]
        for waypoint in under_way[::6]:  # each minute
            metres = distance_m(way, waypoint)
            eta = estimate(history, phase_of(way), metres, waypoint.at_s)
            if isinstance(eta, Eta):
                asked[band_of(metres)] += 1
                held[band_of(metres)] += eta.earliest <= arrived_at <= eta.latest
        for sample in samples_of(route, way, arrived_at):
            history.add(sample)
    assert asked.total() > 5000
    assert 0.75 <= held.total() / asked.total() <= 0.88
    for band, count in asked.items():
        assert held[band] / count >= 0.65, (band, count)
    assert len(history.ratios("to_dropoff", 2)) == SAMPLES
