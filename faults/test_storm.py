"""One fault after another on the same servers, as a bad week would bring them; `make soak`."""

import signal
import time
from collections.abc import Callable
from typing import Final

from faults.scenario import Scenario, pause
from tests.running import wait_until


def kill_server(scenario: Scenario, _: float) -> None:
    scenario.server.send_signal(signal.SIGKILL)


def stop_postgres(scenario: Scenario, seconds: float) -> None:
    scenario.world.postgres.stop()
    pause(seconds)


def kill_postgres(scenario: Scenario, seconds: float) -> None:
    scenario.world.postgres.kill()
    pause(seconds)


def cut(scenario: Scenario, seconds: float) -> None:
    scenario.proxy.cut()
    pause(seconds)


def hang(scenario: Scenario, seconds: float) -> None:
    scenario.proxy.hang()
    pause(seconds)


def lose_answers(scenario: Scenario, seconds: float) -> None:
    scenario.proxy.lose_answers(3)
    pause(seconds)


def kill_broker(scenario: Scenario, seconds: float) -> None:
    scenario.world.kafka.kill()
    pause(seconds)


def pause_broker(scenario: Scenario, seconds: float) -> None:
    scenario.world.kafka.pause()
    pause(seconds)


def pause_server(scenario: Scenario, seconds: float) -> None:
    scenario.server.send_signal(signal.SIGSTOP)
    pause(seconds)
    scenario.server.send_signal(signal.SIGCONT)


FAULTS: Final[tuple[Callable[[Scenario, float], None], ...]] = (
    kill_server, stop_postgres, kill_postgres, cut, hang, lose_answers, kill_broker, pause_broker,
    pause_server,
)  # fmt: skip


def test_a_storm(scenario: Scenario, outage_s: float) -> None:
    seconds = outage_s * 3
    scenario.play(seconds)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pause(scenario.random.uniform(0, 1))
        scenario.random.choice(FAULTS)(scenario, scenario.random.uniform(0.2, outage_s / 2))
        if scenario.random.random() < 0.7:  # else the next fault comes on top of it
            scenario.mend()
    scenario.mend()
    wait_until(scenario.server.is_ready, "ready again", 60)
    scenario.drain(120)
    scenario.prove(counters=False)
