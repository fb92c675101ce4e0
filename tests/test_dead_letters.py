"""Nothing that cannot be processed is thrown away: it is kept whole, and can be sent again."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

from tests.programs import run_program
from tests.running import (
    Platform,
    Server,
    Trip,
    envelope,
    fresh_database,
    running_server,
    wait_until,
)
from tests.test_erasures import erasures_in
from tracking.settings import KafkaSettings, Settings
from workers.kafka.dead_letter_topic import KeptDeadLetter, kept_dead_letters
from workers.kafka.dead_letters import TRUNCATED, DeadLetter, message_of, source_of, truncated


def letter_of(server: Server, expected: int) -> list[KeptDeadLetter]:
    settings = Settings.from_environment(server.environ)
    return wait_until(
        lambda: found if len(found := list(kept_dead_letters(settings))) >= expected else [],
        f"{expected} dead letters",
    )


def committed(server: Server, topic: str) -> int:
    """The group's committed offsets of a topic, summed over its partitions."""
    prefix = server.environ["KAFKA_TOPIC_PREFIX"]
    consumer = KafkaConsumer(
        bootstrap_servers=server.environ["KAFKA_BROKERS"],
        group_id=server.environ["KAFKA_GROUP_ID"],
    )
    try:
        name = f"{prefix}.{topic}"
        places = [TopicPartition(name, n) for n in consumer.partitions_for_topic(name) or ()]
        return sum(consumer.committed(place, timeout_ms=5_000) or 0 for place in places)
    finally:
        consumer.close(autocommit=False)


def tool(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_program("dead_letters.py", *arguments, environ=server.environ)


@pytest.fixture
def own_server(database: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    with running_server(database, tmp_path / "log") as server:
        yield server


@pytest.fixture
def own_platform(own_server: Server) -> Iterator[Platform]:
    platform = Platform(
        own_server.environ["KAFKA_BROKERS"], own_server.environ["KAFKA_TOPIC_PREFIX"]
    )
    yield platform
    platform.close()


def test_a_malformed_event_is_kept_untouched_beside_its_reason_and_place(
    own_server: Server, own_platform: Platform
) -> None:
    trip = Trip()
    own_platform.accept(trip)
    value = b'{"type": "runner.location_update", "data": {"latitude": "north"\xff}}'
    own_platform.send_raw("runner.events", value, [("trace", b"\x00\xff"), ("trace", b"2")])
    own_platform.update(trip, 0)
    (letter,) = letter_of(own_server, 1)
    added = source_of(letter.headers)
    assert letter.value == value
    assert letter.headers[:2] == [("trace", b"\x00\xff"), ("trace", b"2")]
    assert len(letter.key or b"") == 36
    assert added["dead-letter-topic"].decode().endswith(".runner.events")
    assert {"dead-letter-reason", "dead-letter-partition", "dead-letter-offset"} <= added.keys()
    assert {"dead-letter-time", "dead-letter-service-version"} <= added.keys()
    wait_until(lambda: own_server.metric("tracking_waypoints_stored_total") == 1, "the neighbour")
    wait_until(lambda: committed(own_server, "runner.events") == 2, "both offsets committed")


def test_a_tombstone_is_a_dead_letter_too(own_server: Server, own_platform: Platform) -> None:
    own_platform.send_raw("runner.events", None)
    (letter,) = letter_of(own_server, 1)
    assert letter.value is None
    assert "tombstone" in letter.reason


def test_a_letter_is_sent_again_through_the_tool_and_stored_once(
    own_server: Server, own_platform: Platform
) -> None:
    trip = Trip()
    own_platform.accept(trip)
    good = json.dumps(envelope("runner.location_update", trip.update(5))).encode()
    # As after a fix of this service: the event was good all the time.
    record = SimpleNamespace(
        topic=f"{own_platform.prefix}.runner.events", partition=0, offset=7, key=b"k",
        value=good, headers=[], timestamp=int(trip.start.timestamp() * 1000),
    )  # fmt: skip
    message = message_of(DeadLetter(record, "a bug of ours"), trip.start)
    own_platform.send_raw("dead-letter", message.value, message.headers)
    own_platform.send_raw("dead-letter", b"{}", [("dead-letter-reason", b"another")])
    listed = tool(own_server, "list")
    assert listed.returncode == 0
    assert f"{record.topic}/0@7" in listed.stdout
    assert "2  in all" in listed.stderr
    identity = next(x for x in listed.stdout.splitlines() if "a bug of ours" in x).split()[0]
    assert '"longitude"' in tool(own_server, "show", identity).stdout
    assert tool(own_server, "resend").returncode == 2
    assert "would send 1" in tool(own_server, "resend", identity, "--dry-run").stdout
    assert own_server.metric("tracking_waypoints_stored_total") == 0
    for _ in range(2):
        sent = tool(own_server, "resend", "--all", "--reason", "a bug")
        assert (sent.returncode, sent.stdout) == (0, "sent 1 letters again\n")
    wait_until(
        lambda: own_server.metric("tracking_events_total", outcome="duplicate") == 1, "both read"
    )
    assert own_server.metric("tracking_waypoints_stored_total") == 1
    assert committed(own_server, "runner.events") == 0  # nothing went to the source topic


def test_a_retried_letter_that_fails_again_keeps_its_first_coordinates(
    own_server: Server, own_platform: Platform
) -> None:
    own_platform.send_raw("booking.events", b"not json")
    (letter,) = letter_of(own_server, 1)
    assert tool(own_server, "resend", letter.id).returncode == 0
    first, second = letter_of(own_server, 2)
    assert first.source == second.source
    assert second.value == b"not json"
    assert len(source_of(second.headers)) == len([n for n, _ in second.headers])


def test_a_partition_waits_while_the_dead_letter_topic_takes_nothing(
    database: dict[str, str], tmp_path: Path
) -> None:
    prefix = f"test-{uuid4().hex[:12]}"
    admin = KafkaAdminClient(bootstrap_servers=database["KAFKA_BROKERS"])
    # As good as away: it refuses whatever is larger than its limit, and every letter is.
    limit = {"max.message.bytes": "100"}
    admin.create_topics(
        [
            NewTopic(f"{prefix}.dead-letter", 1, 1, topic_configs=limit),
            NewTopic(f"{prefix}.booking.events", 1, 1),
            NewTopic(f"{prefix}.runner.events", 1, 1),
        ]
    )
    with running_server(database, tmp_path / "log", KAFKA_TOPIC_PREFIX=prefix) as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], prefix)
        trip = Trip()
        platform.accept(trip)
        wait_until(lambda: committed(server, "booking.events") == 1, "the booking is committed")
        platform.send_raw("runner.events", b"{")
        wait_until(lambda: "dead letters wait" in (tmp_path / "log").read_text(), "said so")
        platform.update(trip, 0)
        platform.deliver(trip, trip.at(60))
        wait_until(lambda: committed(server, "booking.events") == 2, "other partitions go on")
        assert committed(server, "runner.events") == 0
        assert server.metric("tracking_dead_letters_waiting") == 1
        admin.delete_topics([f"{prefix}.dead-letter"])
        wait_until(lambda: committed(server, "runner.events") == 2, "goes on once it is back")
        wait_until(lambda: server.metric("tracking_waypoints_stored_total") == 1, "stored")
        assert len(letter_of(server, 1)) == 1
        platform.close()
    admin.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_record_too_large_for_the_topic_is_cut_and_says_so(
    own_server: Server, own_platform: Platform
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=own_platform.brokers)
    admin.create_topics([NewTopic(f"{own_platform.prefix}.runner.events", 1, 1)])
    value = b"[" + b"x" * 1_048_300  # with our headers just above the broker's 1 MiB
    own_platform.send_raw("runner.events", value, [])
    (letter,) = letter_of(own_server, 1)
    assert letter.value is not None
    assert source_of(letter.headers)[TRUNCATED] == b"%d" % len(value)
    assert value.startswith(letter.value)
    refused = tool(own_server, "resend", letter.id)
    assert "cut and stay" in refused.stderr
    assert "sent 0" in refused.stdout
    admin.close()


def test_cutting_leaves_out_headers_that_are_too_large_themselves() -> None:
    record = SimpleNamespace(
        topic="t", partition=0, offset=0, timestamp=0, key=b"k" * (1 << 20), value=None,
        headers=[("huge", b"h" * (1 << 20))],
    )  # fmt: skip
    message = truncated(message_of(DeadLetter(record, "reason"), Trip().start))
    assert len(message.key or b"") + sum(len(v) for _, v in message.headers) < (600 << 10)


def test_the_tool_explains_itself_and_its_settings() -> None:
    def run(environ: dict[str, str], *arguments: str) -> Any:
        return run_program("dead_letters.py", *arguments, environ=environ)

    assert "resend" in run({}, "--help").stdout
    assert run({"KAFKA_BROKERS": "nonsense"}, "list").returncode == 2


def test_letters_of_an_erased_booking_are_not_sent_again(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with (
        fresh_database(environ) as own,  # else another server might send the erasure elsewhere
        running_server(own, tmp_path / "log") as server,
    ):
        settings = KafkaSettings.from_environment(server.environ)
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip, other = Trip(), Trip()
        for each in (trip, other):
            platform.accept(each)
            platform.deliver(each, each.at(60))
            wait_until(partial(is_over, server, each), "the end")
            value = json.dumps(envelope("runner.location_update", each.update(5))).encode()
            platform.send_raw("runner.events", value[:-1])
        letter_of(server, 2)
        erased = run_program("erase.py", "--booking", str(trip.booking_id), environ=server.environ)
        assert erased.returncode == 0, erased.stderr
        wait_until(lambda: erasures_in(settings), "Kafka has the erasure")
        sent = tool(server, "resend", "--all", "--dry-run")
        platform.close()
    assert (sent.returncode, sent.stdout) == (0, "would send 1 letters again\n")
    assert "1 are of somebody who was erased, and stay" in sent.stderr


def is_over(server: Server, trip: Trip) -> bool:
    path = f"/api/v1/tracking/{trip.booking_id}"
    status, body, _ = server.get(path, server.token(trip.owner_id, "owner"))
    return bool(status == 200 and body["data"]["status"] == "completed")
