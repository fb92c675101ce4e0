"""workers.breaker: a bug of a deployed version stops the intake, a strange event does not."""

from types import SimpleNamespace
from typing import Any

import pytest

from tracking.metrics import Metrics
from workers.breaker import LIMIT, Breaker, IntakeStopped

ERROR = TypeError("our bug")


def record(number: int) -> Any:
    return SimpleNamespace(value=b"%d" % number)


def fail(breaker: Breaker, number: int, type_: str = "booking.accepted") -> None:
    breaker.failed("store", type_, record(number), ERROR)


def test_different_events_in_a_row_stop_the_intake() -> None:
    metrics = Metrics()
    breaker = Breaker(metrics)
    for number in range(LIMIT - 1):
        fail(breaker, number)
    with pytest.raises(IntakeStopped) as stopped:
        fail(breaker, LIMIT)
    assert str(stopped.value) == breaker.reason
    assert "booking.accepted in a row failed at store with TypeError" in str(stopped.value)
    assert metrics.registry.get_sample_value("tracking_intake_stopped") == 1


def test_the_same_event_again_and_again_is_one() -> None:
    breaker = Breaker(Metrics())
    for _ in range(3 * LIMIT):
        fail(breaker, 1)
    assert breaker.reason is None


def test_a_good_event_of_the_type_ends_the_row_and_one_of_another_type_does_not() -> None:
    breaker = Breaker(Metrics())
    for number in range(LIMIT - 1):
        fail(breaker, number)
    breaker.succeeded("store", "booking.accepted")
    for number in range(LIMIT, 2 * LIMIT - 1):  # others than before
        fail(breaker, number)
    breaker.succeeded("store", "runner.location_update")
    breaker.succeeded("decode", "booking.accepted")
    with pytest.raises(IntakeStopped):
        fail(breaker, 2 * LIMIT)


def test_events_of_two_types_or_stages_are_no_row() -> None:
    breaker = Breaker(Metrics())
    for number in range(LIMIT - 1):
        fail(breaker, number)
        fail(breaker, number + LIMIT, "booking.cancelled")
        breaker.failed("decode", "booking.accepted", record(number + 2 * LIMIT), ERROR)
    assert breaker.reason is None


def test_good_events_matter_only_while_something_has_failed() -> None:
    breaker = Breaker(Metrics())
    found = [breaker.has_suspects]
    fail(breaker, 1)
    found.append(breaker.has_suspects)
    breaker.succeeded("store", "booking.accepted")
    assert [*found, breaker.has_suspects] == [False, True, False]
