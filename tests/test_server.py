"""The whole service as a process: Kafka in, REST and WebSocket out, start and stop."""

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from socket import create_server
from typing import Any
from uuid import UUID

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.programs import run_program
from tests.running import Platform, Server, Trip, running_server, stamp, wait_until
from tests.served import API, owner, stored_trip, track, wait_seq


def test_malformed_events_hurt_nobody_else(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform)
    before = server.metric("tracking_events_total", outcome="dead")
    platform.send("runner.location_update", **trip.update(2, latitude="north"))
    platform.send_raw("runner.events", b"\x00garbage")
    platform.send_raw("runner.events", None)
    platform.update(trip, 3)
    wait_seq(server, trip, 2)
    wait_until(
        lambda: server.metric("tracking_events_total", outcome="dead") == before + 3, "3 dead"
    )
    log = server.log.read_text()
    assert "Expected `float`, got `str` - at `$.latitude`" in log
    assert "north" not in log


def test_all_three_forms_of_an_event_work(server: Server, platform: Platform) -> None:
    trip = Trip()
    accepted = {**trip.identity(), "occurred_at": stamp(trip.start)}
    platform.send_raw("booking.accepted", json.dumps(accepted).encode())
    headers = [("ce_id", b"7"), ("ce_type", b"runner.location_update"), ("ce_source", b"x")]
    platform.send_raw("runner.events", json.dumps(trip.update(1)).encode(), headers)
    platform.update(trip, 2)
    wait_seq(server, trip, 2)


def test_events_go_out_in_order_with_what_consumers_need(
    server: Server, platform: Platform
) -> None:
    trip = stored_trip(server, platform, 3)
    platform.deliver(trip, trip.at(60))
    consumer = platform.outgoing()
    found: list[dict[str, Any]] = []

    def completed() -> bool:
        for records in consumer.poll(timeout_ms=200).values():
            events = [json.loads(record.value) for record in records]
            found.extend(e for e in events if e["data"]["booking_id"] == str(trip.booking_id))
        return bool(found) and found[-1]["type"] == "tracking.summarized"

    wait_until(completed, "tracking.summarized")
    consumer.close()
    types = [event["type"] for event in found]
    ends = ["tracking.completed", "tracking.summarized"]
    assert types == ["tracking.started", *["tracking.updated"] * 3, *ends]
    assert {event["source"] for event in found} == {"service-tracking"}
    assert {event["data"]["owner_id"] for event in found} == {str(trip.owner_id)}
    updated, finished, summarized = found[1]["data"], found[-2]["data"], found[-1]["data"]
    assert (updated["latitude"], updated["longitude"]) == (-6.2, 106.8)
    assert finished["total_distance_km"] == pytest.approx(track(server, trip)["total_distance_km"])
    said = server.get(f"{API}/{trip.booking_id}/summary", owner(server, trip))[1]["data"]
    assert said.items() <= summarized.items()
    assert summarized.keys() - said.keys() == {"runner_id", "owner_id", "replaces", "occurred_at"}
    assert all(UUID(event["id"]) for event in found)


def test_offsets_are_committed_after_storing(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 5)
    topic = f"{platform.prefix}.runner.events"
    reader = KafkaConsumer(
        bootstrap_servers=platform.brokers, group_id=server.environ["KAFKA_GROUP_ID"]
    )
    places = [TopicPartition(topic, n) for n in reader.partitions_for_topic(topic) or ()]
    ends = reader.end_offsets(places)

    def all_committed() -> bool:
        return all((reader.committed(place) or 0) == ends[place] for place in places)

    wait_until(all_committed, "all offsets committed")
    reader.close()
    assert track(server, trip)["seq"] == 5


def test_sigterm_stores_and_commits_what_is_in_flight(
    database: dict[str, str], tmp_path: Path
) -> None:
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = stored_trip(server, platform, 300)
        assert server.stop(signal.SIGTERM) == 0
        server.start().wait_ready()
        assert track(server, trip)["seq"] == 300
        platform.update(trip, 1000)
        wait_seq(server, trip, 301)
        assert server.metric("tracking_events_total", outcome="duplicate") == 0
        platform.close()
        log = server.log.read_text()
    assert "Traceback" not in log


def test_a_restart_after_kill_shows_nothing_twice(database: dict[str, str], tmp_path: Path) -> None:
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = Trip()
        platform.accept(trip)
        for second in range(200):
            platform.update(trip, second)
            if second == 100:
                server.stop(signal.SIGKILL)
        server.start()
        assert len(wait_seq(server, trip, 200)["waypoints"]) == 200
        assert server.stop() == 0
        platform.close()


def test_the_server_does_not_migrate_by_itself(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = Server({**environ, "DB_NAME": "postgres", "SERVICE_PORT": "0"}, log)
    try:
        server.start()
        assert server.get("/health")[0] == 200
        status, body, _ = server.get("/readiness")
        assert status == 503
        assert "alembic upgrade head" in body["checks"]["schema"]
        assert server.process is not None
        assert server.process.poll() is None
    finally:
        server.stop()


def test_topics_that_appear_later_are_read(database: dict[str, str], tmp_path: Path) -> None:
    """kafka-python forgets a join that outlives one poll(): with luck once, not five times."""
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        for count, word in enumerate(("rated", "noted", "tipped", "moved", "asked"), 1):
            platform.send_raw(f"booking.{word}", b"{}")

            def read(count: int = count) -> bool:
                return server.metric("tracking_events_total", outcome="ignored") == count

            wait_until(read, f"topic {count} read")
        platform.close()


def test_a_process_that_shares_its_group_is_not_ready(server: Server, platform: Platform) -> None:
    stored_trip(server, platform)  # before the first events there is no topic to share
    other = KafkaConsumer(
        bootstrap_servers=platform.brokers, group_id=server.environ["KAFKA_GROUP_ID"]
    )
    other.subscribe(pattern=f"^{platform.prefix}\\.(booking|runner)\\.[a-z_]+$")

    def shared() -> bool:
        other.poll(timeout_ms=100)
        status, body, _ = server.get("/readiness")
        return status == 503 and "another member" in body["checks"]["kafka"]

    try:
        wait_until(shared, "not ready")
    finally:
        other.close(autocommit=False, timeout_ms=5000)
    server.wait_ready()


def test_a_port_that_is_taken_ends_the_process(database: dict[str, str]) -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_server({**database, "SERVICE_PORT": port, "SERVICE_ADDRESS": "127.0.0.1"})
    assert result.returncode == 1
    assert f"cannot listen on port {port}" in result.stderr.splitlines()[-1]


def run_server(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program("server.py", *arguments, environ=environ)


def test_wrong_settings_are_told_all_at_once() -> None:
    result = run_server({"DB_PORT": "many", "JWT_SECRET": "short", "LOG_LEVEL": "loud"})
    lines = result.stderr.splitlines()
    assert result.returncode == 2
    assert [line.split(":")[0] for line in lines] == ["DB_PORT", "JWT_SECRET", "LOG_LEVEL"]
    assert "short" not in result.stderr


def test_help_explains_every_variable() -> None:
    text = run_server({}, "--help").stdout
    assert "SERVICE_PORT" in text
    assert "JWT_SECRET" in text
