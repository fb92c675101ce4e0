"""handlers.grace: when a booking may still turn up."""

import math
import time
from uuid import uuid4

import pytest

from handlers import grace as grace_module
from handlers.grace import Grace


@pytest.mark.parametrize(
    ("delay_s", "lasts"), [(0.0, False), (9.0, False), (11.0, True), (math.inf, True)]
)
def test_while_the_pipeline_is_behind_nothing_is_certain(delay_s: float, lasts: bool) -> None:
    grace = Grace(0, lambda: delay_s)
    assert grace.lasts(uuid4(), uuid4()) is lasts


def test_from_the_first_ask_a_booking_has_some_time_to_turn_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    grace, user, booking = Grace(30, lambda: 0.0), uuid4(), uuid4()
    assert grace.lasts(user, booking)
    clock[0] += 29
    assert grace.lasts(user, booking)
    clock[0] += 2
    assert not grace.lasts(user, booking)
    assert grace.lasts(uuid4(), booking)
    assert grace.lasts(user, uuid4())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace_module, "MOST_REMEMBERED", 10)
    grace = Grace(30, lambda: 0.0)
    for _ in range(100):
        assert grace.lasts(uuid4(), uuid4())
    assert len(grace._asked) == 10
