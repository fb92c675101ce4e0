"""What lies in the topics: damaged, huge, malformed, repeated; and letters that nobody takes."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from kafka.errors import TopicAlreadyExistsError

from faults import rows, segments
from faults.broker import create_topics, delete_topics, replace_topic
from faults.scenario import Scenario, pause
from faults.segments import RecordBatch
from tests.running import wait_until

ZSTD, UNKNOWN = 4, 7


def test_megabytes_wait_at_the_start_and_some_records_are_larger_than_a_fetch(
    scenario: Scenario,
) -> None:
    load = scenario.declare(2_000, padding=2_000)
    assert sum(len(r.value or b"") for r in load.records) > 5_000_000
    assert max(len(r.value or b"") for r in load.records) > 400_000
    scenario.send(2_000).wait(60)
    scenario.start_server()
    scenario.drain()
    scenario.prove()


@pytest.mark.parametrize("damage", ["a flipped bit", "an unknown codec"])
def test_bytes_that_nobody_can_read_are_skipped_and_told(scenario: Scenario, damage: str) -> None:
    scenario.declare(1_000, poison_share=0)
    scenario.send(1_000).wait(60)
    scenario.world.kafka.stop()
    segment = segment_of(scenario, "runner.events", 1)
    batch = some_batch(scenario, segment)
    if damage == "a flipped bit":
        segments.flip(segment, batch, b'"latitude"')
    else:
        segments.set_codec(segment, batch, UNKNOWN)
    scenario.world.kafka.start()
    scenario.lose("runner.events", 1, batch.first, batch.last)
    scenario.start_server()
    scenario.drain()
    told = f"runner.events/1: offsets {batch.first} to {batch.last}"
    assert told in scenario.log.read_text()
    skipped = scenario.server.metric("tracking_events_total", outcome="skipped")
    assert skipped == batch.last - batch.first + 1
    if damage == "an unknown codec":  # the oracle could not read it either
        restore(scenario, segment, batch)
    scenario.prove(counters=False)


def test_a_codec_that_is_not_installed_stops_its_partition(
    scenario: Scenario, tmp_path: Path
) -> None:
    scenario.declare(1_000, poison_share=0)
    scenario.send(1_000).wait(60)
    scenario.world.kafka.stop()
    segment = segment_of(scenario, "runner.events", 2)
    batch = some_batch(scenario, segment)
    segments.set_codec(segment, batch, ZSTD)
    scenario.world.kafka.start()
    scenario.start_server(ready=False, PYTHONPATH=str(without("zstandard", tmp_path)))
    wait_until(lambda: "install the codec" in scenario.log.read_text(), "said so", 60)
    wait_until(lambda: scenario.lag() == {f"{scenario.prefix}.runner.events/2"}, "the others go on")
    assert "is stopped" in scenario.server.asks("/readiness")[1]["checks"]["consumer"]
    scenario.server.stop()
    restore(scenario, segment, batch)
    scenario.start_server()
    scenario.drain()
    scenario.prove(counters=False)


def test_every_malformed_payload_is_kept_and_its_neighbours_are_stored(scenario: Scenario) -> None:
    scenario.play(8, corpus=True, poison_share=0.1)
    scenario.drain()
    scenario.prove()
    dead = [r for r in scenario.expected.load.records if r.fate == "dead"]
    lines = re.findall(r"malformed event in \S+ at offset \d+: ", scenario.log.read_text())
    assert len(lines) == len(dead)


def test_nobody_takes_dead_letters_for_a_while(scenario: Scenario, outage_s: float) -> None:
    brokers, topic = scenario.environ["KAFKA_BROKERS"], f"{scenario.prefix}.dead-letter"
    # As good as away: it refuses whatever is larger, and every letter is.
    replace_topic(brokers, topic, 1, {"max.message.bytes": "100"})
    scenario.play(outage_s + 6)
    pause(outage_s)
    assert scenario.server.metric("tracking_dead_letters_waiting") > 0
    assert scenario.server.asks("/health")[0] == 200
    # The server may be the first to make it anew, and its letters are kept from then on: to delete
    # it once more would lose them.
    delete_topics(brokers, [topic])
    with suppress(TopicAlreadyExistsError):
        create_topics(brokers, [topic], 1)
    scenario.drain()
    scenario.prove()


def test_everything_is_said_three_times(scenario: Scenario) -> None:
    scenario.play(9, copies=2)
    scenario.drain()
    scenario.prove()


def test_what_is_stored_is_read_again(scenario: Scenario, outage_s: float) -> None:
    """No new row, no other distance, no frame."""
    scenario.declare(10_000 if outage_s >= 60 else 2_000, poison_share=0)
    scenario.start_server(KAFKA_INSTANCE_ID="")  # so that it leaves the group at once
    scenario.send(1_500)
    scenario.watch()
    scenario.drain()
    assert scenario.server.stop() == 0
    before = rows.read(scenario.environ)
    again = scenario.read_again(last=10_000)
    shown = scenario.connections()
    scenario.start_server()
    scenario.drain()
    scenario.prove(counters=False)
    assert rows.read(scenario.environ) == before
    assert scenario.server.metric("tracking_events_total") == again
    assert scenario.server.metric("tracking_waypoints_stored_total") == 0
    for viewer, number in shown.items():
        frames = [len(connection) for connection in viewer.connections[number:]]
        assert all(count <= 1 for count in frames), "more than the last known position"


def segment_of(scenario: Scenario, topic: str, partition: int) -> Path:
    data = scenario.world.kafka.directory / "data"
    return data / f"{scenario.prefix}.{topic}-{partition}" / f"{0:020}.log"


def some_batch(scenario: Scenario, segment: Path) -> RecordBatch:
    """With neighbours on both sides, and an update in it."""
    data, found = segment.read_bytes(), list(segments.batches(segment))[1:-1]
    fitting = [b for b in found if b'"latitude"' in data[b.position : b.end]]
    return scenario.random.choice(fitting)


def without(library: str, directory: Path) -> Path:
    """A directory that, in PYTHONPATH, hides an installed library."""
    (directory / f"{library}.py").write_text("raise ImportError('hidden by a scenario')\n")
    return directory


def restore(scenario: Scenario, segment: Path, batch: RecordBatch) -> None:
    """As if the codec were installed: the batch is what it was."""
    scenario.world.kafka.stop()
    segments.set_codec(segment, batch, 0)
    scenario.world.kafka.start()
