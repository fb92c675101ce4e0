"""handlers.limits: what one user, one address and all together may take."""

import time
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from handlers import limits as limits_module
from handlers.limits import BURST_S, Allowances, Limits
from tests.viewing import SECRET
from tracking.errors import Overloaded, TooManyConnections, TooManyRequests
from tracking.settings import Settings


def limits(max_viewers: int = 100, **settings: Any) -> Limits:
    return Limits(Settings(jwt_secret=SECRET, **settings), max_viewers)


def test_a_slot_that_is_released_is_free_again() -> None:
    some, user = limits(max_viewers=1), uuid4()
    for _ in range(3):
        slot = some.acquire(user, "a")
        with pytest.raises(Overloaded):
            some.acquire(uuid4(), "b")
        some.release(slot)
    assert (some._total, dict(some._users), dict(some._addresses)) == (0, {}, {})


def test_each_user_and_each_address_has_its_own_limit() -> None:
    some, user = limits(max_viewers_per_user=2, max_viewers_per_address=3), uuid4()
    slots = [some.acquire(user, "a"), some.acquire(user, "b")]
    with pytest.raises(TooManyConnections, match="user"):
        some.acquire(user, "c")
    slots += [some.acquire(uuid4(), "a"), some.acquire(uuid4(), "a")]
    with pytest.raises(TooManyConnections, match="address"):
        some.acquire(uuid4(), "a")
    for slot in slots:
        some.release(slot)
    some.acquire(user, "a")
    assert some._total == 1


def test_zero_is_no_limit() -> None:
    some = limits(10_000, max_viewers_per_user=0, max_viewers_per_address=0, joins_per_second=0)
    user = uuid4()
    for _ in range(5_000):
        some.count_join("a")
        some.acquire(user, "a")


def test_a_burst_of_joins_passes_and_then_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    some = limits(joins_per_second=5)

    def admitted() -> int:
        for count in range(1000):
            try:
                some.count_join("a")
            except TooManyRequests:
                return count
        raise AssertionError("no limit")

    assert admitted() == 5 * BURST_S
    some.count_join("b")
    clock[0] += 2
    assert admitted() == 10
    clock[0] += 1000
    assert admitted() == 5 * BURST_S


def test_a_flood_of_addresses_is_forgotten_and_costs_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, tidied = [1000.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(limits_module, "ADDRESSES", 100)
    some = Allowances(1)
    forget = some._forget_full

    def counted(now: float, most: float) -> None:
        tidied.append(now)
        forget(now, most)

    monkeypatch.setattr(some, "_forget_full", counted)
    for number in range(10_000):
        some.spend(str(number))
    assert len(tidied) < 10
    clock[0] += 100
    for number in range(30_000):
        some.spend(f"later {number}")
        clock[0] += 0.1
    assert len(some) < 200


def test_joins_and_requests_have_limits_of_their_own() -> None:
    some = limits(joins_per_second=1, requests_per_second=2)
    for _ in range(20):
        some.count_request("a")
    with pytest.raises(TooManyRequests):
        some.count_request("a")
    some.count_join("a")


def test_only_so_many_exports_leave_at_once() -> None:
    some = limits()
    with ExitStack() as leaving:
        for _ in range(limits_module.EXPORTS):
            leaving.enter_context(some.export())
        with pytest.raises(Overloaded), some.export():
            pass
    with some.export():
        pass
