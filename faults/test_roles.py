"""Processes with roles of their own: killed, stopped, and their relay taken away."""

import signal
import time
from concurrent.futures import Future

import pytest
from confluent_kafka.admin import AdminClient

from dev.private_server import free_port
from faults.scenario import EVENTS, RATE, WATCHED, Scenario, pause
from faults.server import SupervisedServer
from tests.resuming import Crowd, Viewer
from tests.running import Platform, Trip, wait_until

# A guard against hanging: a process that serves is ready when it has heard one that stores.
READY_S = 60.0
# What the next start has to tell is told within so long.
TOLD_S = 5.0


def start_ingest(scenario: Scenario, name: str, *faults: str) -> SupervisedServer:
    """A process that stores, beside the one with the viewers; started again when it dies."""
    own = {"SERVICE_PORT": str(free_port()), "KAFKA_INSTANCE_ID": name, "RELAY_PARTITIONS": "4"}
    log = scenario.log.with_name(f"{name}.log")
    made = SupervisedServer({**scenario.server.environ, **own}, log, faults, role="ingest")
    scenario.stack.callback(scenario.stop_server, made)
    made.start()
    return made


def play_apart(scenario: Scenario, seconds: float) -> list[SupervisedServer]:
    """As `play`: two processes that store, and one that serves."""
    load = scenario.declare(min(round(seconds * RATE), EVENTS))
    scenario.start_server(role="live", ready=False, KAFKA_INSTANCE_ID="")
    ingests = [start_ingest(scenario, name) for name in ("ingest-1", "ingest-2")]
    for each in (*ingests, scenario.server):
        each.wait_ready()
    scenario.send(len(load.records) / seconds)
    scenario.watch()
    scenario.warm_up()
    return ingests


def kill(server: SupervisedServer) -> None:
    server.send_signal(signal.SIGKILL)
    wait_until(server.is_dead, "dead")


def test_each_of_them_is_killed_at_random(scenario: Scenario, outage_s: float) -> None:
    ingests = play_apart(scenario, outage_s + 8)
    end = time.monotonic() + outage_s
    while time.monotonic() < end:
        pause(scenario.random.uniform(0.5, 2.0))
        victim = scenario.random.choice([*ingests, scenario.server])
        kill(victim)
        wait_until(victim.is_ready, "ready again", READY_S)
    scenario.drain()
    scenario.prove(counters=False)


def test_killed_between_commit_and_sending(scenario: Scenario) -> None:
    """Without a new event: the next start tells, and nobody is told twice."""
    platform, trip = Platform(scenario.environ["KAFKA_BROKERS"], scenario.prefix), Trip()
    scenario.stack.callback(platform.close)
    live = scenario.start_server(role="live", ready=False, KAFKA_INSTANCE_ID="")
    first = start_ingest(scenario, "ingest-1")
    platform.accept(trip)
    platform.update(trip, 1)
    address, token = ("127.0.0.1", live.port), live.token(trip.owner_id, "owner")
    with Crowd([Viewer(address, trip.booking_id, token) for _ in range(WATCHED)]) as crowd:
        wait_until(lambda: crowd.have({trip.booking_id: 1}), "the first waypoint", READY_S)
        assert first.stop() == 0
        dying = start_ingest(scenario, "ingest-1", "after COMMIT:1").wait_ready()
        platform.update(trip, 2)
        wait_until(lambda: dying.outages == 1, "killed")
        assert scenario.stored() == 2
        wait_until(dying.is_ready, "ready again", READY_S)
        wait_until(lambda: crowd.have({trip.booking_id: 2}), "told", TOLD_S)
        # What would be told twice has come before this.
        platform.update(trip, 3)
        wait_until(lambda: crowd.have({trip.booking_id: 3}), "the next", TOLD_S)
    assert crowd.problems() == []
    assert crowd.codes() == {}


def test_the_process_with_the_viewers_stands_still(scenario: Scenario, outage_s: float) -> None:
    play_apart(scenario, outage_s + 8)
    scenario.server.send_signal(signal.SIGSTOP)
    pause(outage_s)
    scenario.server.send_signal(signal.SIGCONT)
    scenario.drain()
    scenario.prove(counters=False)


@pytest.mark.parametrize("what", ["deleted", "emptied"])
def test_the_relay_loses_what_it_had(scenario: Scenario, what: str) -> None:
    play_apart(scenario, 12)
    topic = f"{scenario.prefix}.tracking.live"
    admin = AdminClient({"bootstrap.servers": scenario.environ["KAFKA_BROKERS"]})
    for _ in range(2):
        pause(scenario.random.uniform(0.5, 2.0))
        done(admin, topic, what).result(30)
    scenario.drain()
    scenario.prove(counters=False)


def done(admin: AdminClient, topic: str, what: str) -> "Future[None]":
    if what == "deleted":
        future: Future[None] = admin.delete_topics([topic])[topic]
        return future
    from confluent_kafka import TopicPartition

    end = -1  # OFFSET_END: everything before goes
    partitions = len(admin.list_topics(timeout=10).topics[topic].partitions)
    futures = admin.delete_records([TopicPartition(topic, p, end) for p in range(partitions)])
    for future in list(futures.values())[1:]:
        future.result(30)
    first: Future[None] = next(iter(futures.values()))
    return first


@pytest.mark.parametrize("dead", ["kafka", "postgres"])
def test_a_server_is_away(scenario: Scenario, outage_s: float, dead: str) -> None:
    play_apart(scenario, outage_s + 8)
    server = getattr(scenario.world, dead)
    server.kill()
    pause(outage_s)
    server.start()
    scenario.drain()
    scenario.prove(counters=False)
