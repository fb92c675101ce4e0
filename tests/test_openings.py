"""handlers.openings: one viewer counts once, and memory is bounded."""

import time
from uuid import uuid4

import pytest

from handlers import openings
from handlers.openings import SAME_VIEWER_S, Openings


def test_one_address_with_one_browser_is_one_viewer_of_a_link() -> None:
    seen, link = Openings(), uuid4()
    assert seen.is_new(link, "10.0.0.1", "Firefox")
    assert not seen.is_new(link, "10.0.0.1", "Firefox")
    for other in ((uuid4(), "10.0.0.1", "Firefox"), (link, "10.0.0.2", "Firefox"),
                  (link, "10.0.0.1", "Safari")):  # fmt: skip
        assert seen.is_new(*other)


def test_who_was_quiet_for_long_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, link, now = Openings(), uuid4(), 1000.0  # sums of it are exact
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert seen.is_new(link, "10.0.0.1", "Firefox")
    for _ in range(3):
        now += SAME_VIEWER_S
        assert not seen.is_new(link, "10.0.0.1", "Firefox")
    now += SAME_VIEWER_S + 1
    assert seen.is_new(link, "10.0.0.1", "Firefox")


def test_above_the_limit_the_quietest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings, "MOST_REMEMBERED", 2)
    seen, link = Openings(), uuid4()
    for address in ("a", "b", "a", "c"):
        seen.is_new(link, address, "")
    assert len(seen) == 2
    assert not seen.is_new(link, "a", "")
    assert seen.is_new(link, "b", "")


def test_what_could_not_be_counted_is_new_again() -> None:
    seen, link = Openings(), uuid4()
    assert seen.is_new(link, "10.0.0.1", "Firefox")
    seen.forget(link, "10.0.0.1", "Firefox")
    assert seen.is_new(link, "10.0.0.1", "Firefox")
    assert not seen.is_new(link, "10.0.0.1", "Firefox")
