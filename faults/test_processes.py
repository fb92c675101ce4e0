"""The server's own process: killed, stopped, paused."""

import pytest

from faults.scenario import Scenario


@pytest.mark.parametrize("place", ["before COMMIT", "after COMMIT", "before the watermark"])
def test_killed_in_the_middle_of_a_batch(scenario: Scenario, place: str) -> None:
    scenario.declare(1200)
    scenario.start_server([f"{place}:{n}" for n in (4, 2)])
    scenario.send(rate=150)
    scenario.watch()
    scenario.drain()
    assert scenario.server.statuses == [-9, -9]
    scenario.prove()
