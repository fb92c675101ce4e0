"""tracking.domain.summary: three sums of time, two distances, and how good the record is."""

from itertools import pairwise

import pytest
from hypothesis import given, settings

from tests.simulated import Spot, at, course_of, returning, route_of, routes, straight, trips
from tracking.domain.hops import Recorded
from tracking.domain.routes import WGS84
from tracking.domain.summary import JudgedWaypoint, TripFacts, summary_of
from tracking.domain.verdicts import Verdict, judge

TRIP = TripFacts(0.0, None)


def judged(
    route: list[Recorded],
    verdicts: dict[int, Verdict] | None = None,
    delay_s: float = 1.0,
    speed_kmh: float | None = None,
) -> list[JudgedWaypoint]:
    known = verdicts or {}
    return [
        JudgedWaypoint(*w, w.at_s + delay_s, speed_kmh, False, known.get(w.seq, Verdict.OK))
        for w in route
    ]


@settings(max_examples=200, deadline=None)
@given(routes(most=40, spread=200))
def test_the_three_sums_are_what_was_recorded(route: list[Recorded]) -> None:
    assert_exact(route, judge(route).verdicts)


@settings(max_examples=200, deadline=None)
@given(returning())
def test_the_three_sums_of_a_route_that_comes_back_are_what_was_recorded(
    route: list[Recorded],
) -> None:
    assert_exact(route, {})


def assert_exact(route: list[Recorded], flagged: dict[int, Verdict]) -> None:
    summary = summary_of(judged(route, flagged), TRIP)
    times, at_us = summary.times, [micros(w.at_s) for w in route if w.seq not in flagged]
    recorded = at_us[-1] - at_us[0] if at_us else 0
    parts = [micros(each) for each in (times.moving_s, times.standing_s, times.unknown_s)]
    assert micros(times.recorded_s) == sum(parts) == recorded
    assert min(parts) >= 0
    moved = [micros(g.to_s) - micros(g.from_s) for g in summary.gaps if g.moved]
    assert parts[2] == sum(moved)


def micros(seconds: float) -> int:
    return round(seconds * 1e6)


def test_a_gap_that_moved_is_unknown_even_if_the_route_came_back() -> None:
    here = [at(1 + n, 5.0 * n, Spot(0, 0)) for n in range(5)]
    there = at(6, 100, Spot(150, 0))
    back = [at(7 + n, 180 + 5.0 * n, Spot(0, 0)) for n in range(5)]
    times = summary_of(judged([*here, there, *back]), TRIP).times
    assert (times.recorded_s, times.moving_s) == (200, 0)
    assert (times.standing_s, times.unknown_s) == (40, 160)


def test_a_drive_with_a_stop_and_a_tunnel() -> None:
    drive = straight(21)  # 1,000 m in 100 s, from 5 s on
    stop = [at(21 + n, 105 + 5.0 * n, Spot(1050 + n % 2, 0)) for n in range(1, 41)]
    tunnel = [at(62, 405, Spot(3050, 0))]  # 2 km in 100 s
    end = [at(62 + n, 405 + 5.0 * n, Spot(3050 + 50 * n, 0)) for n in range(1, 11)]
    route = judged([*drive, *stop, *tunnel, *end], speed_kmh=36)
    summary = summary_of(route, TripFacts(0.0, 460.0, dropoff=(106.8, -6.2)))
    times, record = summary.times, summary.record
    assert (times.duration_s, times.recorded_s) == (460, 450)
    assert (times.moving_s, times.standing_s, times.unknown_s) == (150, 200, 100)
    assert summary.distance_m == summary.reported_distance_m == pytest.approx(3545, rel=0.01)
    assert summary.speeds.average_kmh == pytest.approx(36, rel=0.01)
    ((stay, where),) = [(stop.stay, stop.at) for stop in summary.stops]
    assert (stay.from_s, stay.to_s, where) == (105, 305, None)
    assert [gap.moved for gap in summary.gaps] == [True]
    assert summary.longest_gap_s == 100
    assert record.coverage == pytest.approx(1 - (100 + 5 + 5) / 460)
    assert record.interval_p50_s == 5


def test_a_silence_without_motion_is_standing_and_loses_no_coverage() -> None:
    route = [*straight(10), *(w._replace(at_s=w.at_s + 600, seq=w.seq) for w in straight(20)[10:])]
    summary = summary_of(judged(route), TripFacts(5.0, 700.0))
    assert summary.times.standing_s == 605
    assert summary.times.moving_s == 90
    assert summary.times.unknown_s == 0
    assert summary.record.coverage == 1
    rest = [at(n, 5.0 * n + 600 * (n > 50), Spot(n % 2, 0)) for n in range(101)]
    assert summary_of(judged(rest), TRIP).times.standing_s == 1100


def test_flagged_waypoints_count_for_one_distance_only() -> None:
    route = straight(20)
    route[9] = at(10, 50, Spot(500, 9000))
    summary = summary_of(judged(route, judge(route).verdicts), TRIP)
    clean = summary_of(judged([*route[:9], *route[10:]]), TRIP)
    assert summary.distance_m == clean.distance_m == clean.reported_distance_m
    assert summary.reported_distance_m == pytest.approx(
        sum(WGS84.inv(*a[2:], *b[2:])[2] for a, b in pairwise(route)), abs=0.02
    )
    assert summary.times == clean.times
    assert (summary.record.waypoints, summary.record.flagged) == (20, {"jump": 1})


def test_a_flagged_newest_waypoint_still_ends_the_duration_of_a_trip_that_lasts() -> None:
    route = [*straight(20), at(21, 105, Spot(1050, 90_000))]
    summary = summary_of(judged(route, {21: Verdict.PENDING}), TripFacts(5.0, None))
    assert (summary.times.duration_s, summary.times.recorded_s) == (100, 95)
    assert summary.record.coverage == pytest.approx(0.95)


def test_wandering_at_rest_is_no_speed() -> None:
    rest = [at(20 + n, 100 + 5.0 * n, Spot(1000 + 6 * (n % 2), 0)) for n in range(1, 400)]
    summary = summary_of(judged([*straight(20), *rest]), TRIP)
    assert summary.distance_m > 3000
    assert summary.speeds.average_kmh == pytest.approx(36, rel=0.03)


def test_stops_at_pickup_and_dropoff_are_told_apart() -> None:
    here, there = at(0, 0, Spot(0, 0)), at(0, 0, Spot(0, 5000))
    trip = TripFacts(0.0, None, (here[2], here[3]), (there[2], there[3]))
    spots = [Spot(30, 0), Spot(0, 2500), Spot(0, 4950), Spot(0, 5061)]
    route = [
        at(100 * place + n, 1000.0 * place + 10 * n, spot)
        for place, spot in enumerate(spots, 1)
        for n in range(20)
    ]
    stops = summary_of(judged(route), trip).stops
    assert [stop.at for stop in stops] == ["pickup", None, "dropoff", None]


def test_how_reports_came_is_counted() -> None:
    route = [w._replace(received_at_s=w.at_s + w.seq) for w in judged(straight(100))]
    route[3] = route[3]._replace(corrected=True, received_at_s=route[3].at_s - 5)
    route = [w._replace(speed_kmh=float(w.seq) if w.seq % 2 else None) for w in route]
    summary = summary_of(route, TripFacts(0.0, None, left_route=3))
    record = summary.record
    assert (record.late, record.clock_corrected, record.left_route) == (40, 1, 3)
    assert (record.delay_p50_s, record.delay_p95_s) == (50, 95)
    assert (summary.speeds.max_kmh, summary.speeds.p99_kmh) == (99, 99)


def test_a_trip_without_waypoints_has_a_duration_and_nothing_else() -> None:
    summary = summary_of([], TripFacts(100.0, 400.0))
    assert summary.times.duration_s == 300
    assert summary.record.coverage == 0
    assert summary.distance_m == summary.times.recorded_s == 0
    assert summary_of([], TRIP).record.coverage is None


def test_simulated_trips_are_covered_and_mostly_move() -> None:
    for trip in trips(10):
        course = course_of(trip)
        summary = summary_of(judged(route_of(trip)), TripFacts(0.0, course.delivered_s))
        assert summary.times.duration_s == course.delivered_s
        assert summary.record.coverage == pytest.approx(1, abs=0.02)
        assert summary.times.unknown_s == 0
        assert summary.speeds.average_kmh is not None
        assert 15 < summary.speeds.average_kmh < 40
