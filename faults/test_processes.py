"""The server's own process: killed, stopped, paused."""

import os
import signal
import time

import pytest

from faults.launcher import STORING
from faults.scenario import Scenario, pause
from tests.running import wait_until

# What a supervisor gives a process after SIGTERM, and what a restart may take.
STOP_S = 20.0
READY_S = 10.0


@pytest.mark.parametrize("place", STORING)
def test_killed_in_the_middle_of_a_batch(scenario: Scenario, place: str) -> None:
    scenario.play(8, [f"{place}:{n}" for n in (4, 2)])
    scenario.drain()
    assert scenario.server.statuses == [-signal.SIGKILL] * 2
    scenario.prove()


def test_killed_at_any_moment(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 6)
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        pause(scenario.random.uniform(0.2, 2.0))
        scenario.server.send_signal(signal.SIGKILL)
        wait_until(scenario.server.is_dead, "dead")
        wait_until(scenario.server.is_ready, "ready again", READY_S)
    scenario.drain()
    scenario.prove()


def test_stopped_and_started_under_load(scenario: Scenario) -> None:
    scenario.play(20)
    for _ in range(3):
        assert stops(scenario) == 0
        scenario.start_server()
        scenario.goes_on_within(READY_S)
    scenario.drain()
    scenario.prove(counters=False)


@pytest.mark.parametrize("dead", ["postgres", "kafka"])
def test_stopped_while_a_server_is_dead(scenario: Scenario, dead: str) -> None:
    scenario.play(8)
    server = getattr(scenario.world, dead)
    server.kill()
    pause(scenario.random.uniform(0.5, 2.0))
    assert stops(scenario) == 0
    server.start()
    scenario.start_server()
    scenario.drain()
    scenario.prove(counters=False)


@pytest.mark.parametrize("hanging", [("postgres",), ("kafka",), ("postgres", "kafka")])
def test_stopped_while_servers_hang(scenario: Scenario, hanging: tuple[str, ...]) -> None:
    scenario.play(8)
    servers = [getattr(scenario.world, name) for name in hanging]
    for server in servers:
        server.pause()
    pause(scenario.random.uniform(0.5, 2.0))
    assert stops(scenario) == 0
    for server in servers:
        server.resume()
    scenario.start_server()
    scenario.drain()
    scenario.prove(counters=False)


def test_told_twice_to_stop(scenario: Scenario) -> None:
    scenario.play(6)
    scenario.server.send_signal(signal.SIGTERM)
    pause(0.1)
    assert stops(scenario) == 0
    scenario.start_server()
    scenario.drain()
    scenario.prove(counters=False)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 1.0])
def test_stopped_while_it_starts(scenario: Scenario, after_s: float) -> None:
    scenario.declare(300)
    scenario.send(rate=300)
    scenario.start_server(ready=False)
    wait_until(lambda: "on Python" in scenario.log.read_text(), "begun")
    pause(after_s)
    assert stops(scenario) == 0
    scenario.start_server()
    scenario.drain()
    scenario.prove(counters=False)


def test_paused_like_a_machine_that_is_moved(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 6)
    os.kill(scenario.server.pid, signal.SIGSTOP)
    pause(max(outage_s / 2, 12.0))  # longer than the group waits for a member
    os.kill(scenario.server.pid, signal.SIGCONT)
    scenario.goes_on_within(30)
    scenario.drain()
    scenario.prove(counters=False)
    assert not scenario.server.outages


def stops(scenario: Scenario) -> int:
    """The exit status, which comes in time."""
    begin = time.monotonic()
    status = scenario.server.stop()
    assert time.monotonic() - begin < STOP_S
    return status
