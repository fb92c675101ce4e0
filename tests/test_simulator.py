"""dev.simulator, dev.trips, dev.faults and dev.gpx: what the platform's services would publish."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaConsumer

from dev.gpx import GpxError, read_gpx
from tests.programs import run_program
from tests.running import CHECKOUT
from tracking.domain.decoding import decode
from tracking.domain.events import BOOKING_KINDS

START = "2026-02-06T10:30:00Z"


def simulate(*arguments: str) -> list[dict[str, Any]]:
    """The values that the CLI prints for one trip of each of two runners."""
    done = run_program(
        "-m", "dev.simulator", "--output", "jsonl", "--fast", "--once",
        "--trips", "2", "--start", START, *arguments, environ=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def updates(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e["data"] for e in events if e["type"] == "runner.location_update"]


def test_a_seed_gives_the_same_trips_every_time() -> None:
    assert simulate("--seed", "5") == simulate("--seed", "5")
    assert simulate("--seed", "5") != simulate("--seed", "6")


def test_a_trip_has_its_whole_life_in_the_platforms_envelope() -> None:
    events = simulate("--seed", "5")
    first = events[0]["data"]["booking_id"]
    life = [e["type"] for e in events if e["data"].get("booking_id") == first]
    lifecycle = [type_ for type_ in life if type_ in BOOKING_KINDS]
    assert lifecycle == [kind for kind in BOOKING_KINDS if kind != "booking.cancelled"]
    assert life.count("runner.location_update") > 20
    for event in events:
        assert set(event) == {"id", "source", "type", "time", "datacontenttype", "data"}
        assert event["source"] == f"service-{event['type'].partition('.')[0]}"
        assert len(event["time"]) == len("2026-02-06T10:30:00.123456789Z")


def test_duplicates_are_the_very_same_event() -> None:
    events = [json.dumps(event) for event in simulate("--seed", "5", "--faults", "duplicates")]
    assert len(events) > len(set(events))
    assert {json.loads(e)["id"] for e in events} == {
        event["id"] for event in simulate("--seed", "5")
    }


def test_a_tunnel_sends_late_and_in_order() -> None:
    late = updates(simulate("--seed", "5", "--faults", "tunnel", "--trips", "1"))
    assert any(u["occurred_at"][:19] > u["timestamp"][:19] for u in late)
    assert [u["timestamp"] for u in late] == sorted(u["timestamp"] for u in late)


def test_a_skewed_clock_is_wrong_and_a_jump_is_elsewhere() -> None:
    honest, skewed = (
        updates(simulate("--seed", "5", *more)) for more in ((), ("--faults", "skew"))
    )
    assert [u["timestamp"] for u in honest] != [u["timestamp"] for u in skewed]
    assert [u["occurred_at"] for u in honest] == [u["occurred_at"] for u in skewed]
    far = updates(simulate("--seed", "5", "--faults", "jumps"))
    assert sum(a["latitude"] != b["latitude"] for a, b in zip(honest, far, strict=True)) > 0


def test_a_phone_may_not_know_its_booking() -> None:
    assert all("booking_id" not in u for u in updates(simulate("--unknown-booking", "1")))


GPX = """<?xml version="1.0"?>
<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="-6.2" lon="106.8"><time>2020-01-01T00:00:00Z</time></trkpt>
<trkpt lat="-6.201" lon="106.8"><time>2020-01-01T00:00:10Z</time></trkpt>
<trkpt lat="-6.202" lon="106.801"><time>2020-01-01T00:00:25Z</time></trkpt>
</trkseg></trk></gpx>"""


def test_a_gpx_track_is_driven_in_its_own_times(tmp_path: Path) -> None:
    file = tmp_path / "track.gpx"
    file.write_text(GPX)
    driven = updates(simulate("--gpx", str(file), "--trips", "1", "--seed", "1"))
    assert [(u["latitude"], u["longitude"]) for u in driven] == [
        (-6.2, 106.8), (-6.201, 106.8), (-6.202, 106.801),
    ]  # fmt: skip
    seconds = [int(u["timestamp"][17:19]) for u in driven]
    assert [b - a for a, b in pairwise(seconds)] == [10, 15]


@pytest.mark.parametrize("more", [[], ["--speed", "30"], ["--rate", "50"]])
@pytest.mark.parametrize("times", ["none", "one"])
def test_a_gpx_track_without_usable_times_is_driven_whole_and_nothing_is_refused(
    tmp_path: Path, times: str, more: list[str]
) -> None:
    file = tmp_path / "track.gpx"
    text = re.sub("<time>.*</time>", "", GPX, count=0 if times == "none" else 2)
    file.write_text(text.replace("-6.202", "-6.9"))  # 78 km further
    events = simulate("--gpx", str(file), "--trips", "1", "--seed", "1", *more)
    driven = updates(events)
    assert [u["latitude"] for u in driven] == [-6.2, -6.201, -6.9]
    at = datetime(2026, 2, 6, 12, tzinfo=UTC)
    for event in events:  # nothing is a dead letter, no speed is impossible
        decode("booking.events", json.dumps(event).encode(), [], at)
    if more != ["--speed", "30"]:
        assert all(u["speed_kmh"] <= 500 for u in driven)
        seconds = [datetime.fromisoformat(u["timestamp"]).timestamp() for u in driven]
        assert 77_700 / (seconds[2] - seconds[1]) * 3.6 < 500


@pytest.mark.parametrize("text", ["", "<gpx/>", GPX.replace("-6.201", "north"), "<gpx>"])
def test_a_file_that_holds_no_track_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "track.gpx"
    file.write_text(text)
    with pytest.raises(GpxError, match=r"track\.gpx"):
        read_gpx(file)


@pytest.mark.parametrize("form", ["structured", "bare", "binary"])
def test_kafka_gets_what_jsonl_prints(environ: dict[str, str], form: str) -> None:
    prefix = f"test-{uuid4().hex[:12]}"
    arguments = ["--seed", "5", "--faults", "all", "--form", form]
    printed = Counter(json.dumps(value) for value in simulate(*arguments))
    simulate(
        *arguments, "--output", "kafka", "--prefix", prefix,
        "--brokers", environ["KAFKA_BROKERS"],
    )  # fmt: skip
    produced: Counter[str] = Counter()
    with closing(
        KafkaConsumer(
            bootstrap_servers=environ["KAFKA_BROKERS"], group_id=None,
            auto_offset_reset="earliest", consumer_timeout_ms=15_000,
        )
    ) as consumer:  # fmt: skip
        consumer.subscribe(pattern=f"^{prefix}\\.")
        for record in consumer:
            produced[json.dumps(json.loads(record.value))] += 1
            if produced.total() == printed.total():
                break
    assert produced == printed


def test_a_signal_ends_it_cleanly_with_everything_printed() -> None:
    command = [sys.executable, "-m", "dev.simulator", "--output", "jsonl", "--rate", "100"]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert any("events, " in text for text in process.stderr)  # it said how far it is
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()  # if the test failed; or it would wait for ever
    assert process.returncode == 0
    assert f"{len(out.splitlines())} events produced" in err


@pytest.mark.parametrize(
    "wrong", [["--faults", "rain"], ["--trips", "0"], ["--start", "noon"], ["--gpx", "/none"]]
)
def test_wrong_arguments_are_named_and_exit_2(wrong: list[str]) -> None:
    done = run_program("-m", "dev.simulator", *wrong, environ=os.environ)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert wrong[1] in done.stderr


def test_all_bookings_may_be_one_owners() -> None:
    owner = str(uuid4())
    events = simulate("--seed", "5", "--owner", owner)
    assert {e["data"]["owner_id"] for e in events if "owner_id" in e["data"]} == {owner}
    assert [e["id"] for e in events] == [e["id"] for e in simulate("--seed", "5")]
    assert all("owner_id" not in data for data in updates(events))
