"""The broker stopped, killed, paused, absent; topics that go and come; members that do."""

import time

import pytest

from faults.broker import create_topics, delete_topics
from faults.load import PARTITIONS
from faults.scenario import Scenario, pause
from faults.server import SupervisedServer
from tests.running import wait_until

# After the broker is back.
BACK_S = 30.0
# Of one core, while there is nothing to do.
IDLE_CPU = 0.2


@pytest.mark.parametrize("fault", ["stop", "kill", "pause"])
def test_the_broker_is_away_for_a_while(scenario: Scenario, outage_s: float, fault: str) -> None:
    scenario.play(outage_s + 6)
    getattr(scenario.world.kafka, fault)()
    rests(scenario, outage_s)
    scenario.world.mend()
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove(counters=False)
    assert not scenario.server.outages


def test_no_broker_is_there_at_the_start(scenario: Scenario, outage_s: float) -> None:
    scenario.declare(600)
    scenario.world.kafka.stop()
    scenario.start_server(ready=False)
    wait_until(lambda: scenario.server.asks("/health")[0] == 200, "healthy")
    rests(scenario, outage_s)
    assert "no broker" in scenario.server.asks("/readiness")[1]["checks"]["kafka"]
    scenario.world.kafka.start()
    scenario.send(rate=300)
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove()


def test_a_topic_is_deleted_and_made_again(scenario: Scenario, outage_s: float) -> None:
    load = scenario.declare(1500, poison_share=0)
    scenario.start_server()
    half = len(load.records) // 2
    scenario.send(300, load.records[:half])
    scenario.drain()
    brokers, topic = scenario.environ["KAFKA_BROKERS"], f"{scenario.prefix}.runner.events"
    delete_topics(brokers, [topic])
    rests(scenario, outage_s)
    create_topics(brokers, [topic], PARTITIONS)
    scenario.send(300, load.records[half:])
    scenario.goes_on_within(BACK_S)
    scenario.drain()
    scenario.prove(source_is_whole=False)


def test_a_second_member_joins_and_leaves(scenario: Scenario, outage_s: float) -> None:
    scenario.play(outage_s + 10)
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        second = scenario.another_server()
        pause(scenario.random.uniform(3, 5))
        assert second.stop() == 0
    wait_until(scenario.server.is_ready, "all partitions back", BACK_S)
    scenario.drain()
    scenario.prove(counters=False)


def test_a_second_member_is_killed(scenario: Scenario) -> None:
    scenario.play(16)
    second = scenario.another_server()
    wait_until(lambda: is_shared(scenario, second), "shared", BACK_S)
    second.stop(9)
    wait_until(scenario.server.is_ready, "all partitions back", BACK_S)
    scenario.drain()
    scenario.prove(counters=False)


def is_shared(scenario: Scenario, second: SupervisedServer) -> bool:
    answers = [server.asks("/readiness")[1] for server in (scenario.server, second)]
    return all(a and "another member" in a["checks"]["kafka"] for a in answers)


def rests(scenario: Scenario, seconds: float) -> None:
    """No spin: what it cannot do it tries now and then."""
    pause(1.0)  # what was read before is still stored
    before, begin = scenario.server.cpu_seconds(), time.monotonic()
    pause(seconds)
    used = (scenario.server.cpu_seconds() - before) / (time.monotonic() - begin)
    assert used < IDLE_CPU, f"{used:.0%} of a core"
    assert scenario.server.asks("/health")[0] == 200
