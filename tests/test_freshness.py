"""tracking.domain.freshness: how old a position is, whose fault that is, when the next is due."""

from datetime import UTC, datetime, timedelta

import pytest

from tracking.domain.freshness import (
    DELAYED_AFTER_S,
    USUAL_INTERVAL,
    Reports,
    freshness_of,
)

AT = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("silence", "heard", "delay_s", "expected"),
    [
        (29.9, None, 0, ("live", None)),
        (29.9, None, 60, ("live", None)),
        (30, None, 0, ("stale", "no_points")),
        (30, 29, 0, ("stale", "no_usable_points")),
        (30, 0, 0, ("stale", "no_points")),
        (30, 29, DELAYED_AFTER_S, ("stale", "no_usable_points")),
        (30, 29, DELAYED_AFTER_S + 0.1, ("stale", "pipeline_delayed")),
        (119.9, None, 0, ("stale", "no_points")),
        (120, None, 0, ("lost", "no_points")),
        (120, 100, 0, ("lost", "no_usable_points")),
        (120, None, 60, ("lost", "pipeline_delayed")),
    ],
)
@pytest.mark.parametrize("has_position", [True, False])
def test_how_old_and_why(
    silence: float,
    heard: float | None,
    delay_s: float,
    expected: tuple[str, str | None],
    has_position: bool,
) -> None:
    reports = Reports()
    if heard is not None:
        reports.heard(after(heard))
    # Without a position silence counts from the beginning of the trip.
    last_at = AT if has_position else None
    found = freshness_of(after(silence), AT, last_at, reports, delay_s)
    assert (found.state, found.reason) == expected


def test_the_next_report_is_expected_unless_the_runner_is_lost_and_silent() -> None:
    reports = Reports()
    reports.shown(AT)

    def expected(seconds: float) -> datetime | None:
        return freshness_of(after(seconds), AT, AT, reports, 0).next_expected_at

    assert expected(5) == AT + USUAL_INTERVAL
    assert expected(60) == after(60) + USUAL_INTERVAL  # overdue: at any moment
    assert expected(121) is None
    reports.heard(after(120))
    assert expected(121) == after(121) + USUAL_INTERVAL


def test_the_pace_is_learned_and_a_pause_is_no_pace() -> None:
    reports = Reports()
    for _ in range(50):
        reports.learn(timedelta(seconds=5))
    assert abs(reports.interval - timedelta(seconds=5)) < timedelta(milliseconds=1)
    for gap in (timedelta(0), timedelta(seconds=-5), timedelta(minutes=10)):
        reports.learn(gap)
    assert abs(reports.interval - timedelta(seconds=5)) < timedelta(milliseconds=1)
