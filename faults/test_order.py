"""Nothing wrong with any server: the events come in an order that nobody would expect."""

import pytest

from faults.scenario import Scenario
from faults.trips import KINDS, future, handed_over, tunnels, two_phones


@pytest.mark.parametrize("order", ["shuffled", "backwards"])
def test_any_order_gives_the_same_day(scenario: Scenario, order: str) -> None:
    scenario.play(8, order=order)
    scenario.drain()
    scenario.prove()


def test_late_by_hours(scenario: Scenario) -> None:
    """All that phones say comes after all that is said of their bookings, and the other way."""
    scenario.play(8, order="types")
    scenario.drain()
    scenario.prove()


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [two_phones, future, handed_over, tunnels], ids=lambda k: k.__name__
)
def test_many_trips_of_one_kind(scenario: Scenario, kind: object) -> None:
    assert kind in KINDS
    scenario.play(5, kinds=[kind])
    scenario.drain()
    scenario.prove()
