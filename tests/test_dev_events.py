"""dev.events: the three forms in which an event reaches Kafka."""

import json
from dataclasses import replace

import pytest

from dev.events import Event, Form, encoder, nanoseconds, rfc3339
from dev.trip_events import events_in
from dev.trips import Plan

PLAN = Plan(seed=7, runners=1, interval_s=60, start_ns=nanoseconds("2026-02-06T10:30:00Z"))


def update() -> Event:
    return next(e for e in events_in(PLAN) if e.type == "runner.location_update")


def test_the_structured_form_is_the_envelope_with_the_events_id_as_key() -> None:
    event = update()
    topic, key, value, headers = encoder(Form.STRUCTURED, "pets")(event)
    envelope = json.loads(value)
    assert (topic, key.decode(), headers) == ("pets.runner.events", event.id, [])
    assert list(envelope) == ["id", "source", "type", "time", "datacontenttype", "data"]
    assert (envelope["source"], envelope["type"]) == ("service-runner", "runner.location_update")
    assert envelope["datacontenttype"] == "application/json"
    assert set(envelope["data"]) == {
        "runner_id", "booking_id", "latitude", "longitude", "speed_kmh", "heading_degrees",
        "timestamp", "occurred_at",
    }  # fmt: skip


def test_the_other_forms_hold_the_same_data() -> None:
    event = update()
    envelope = json.loads(encoder(Form.STRUCTURED, "pets")(event).value)
    bare = encoder(Form.BARE, "pets")(event)
    binary = encoder(Form.BINARY, "pets")(event)
    assert json.loads(bare.value) == json.loads(binary.value) == envelope["data"]
    assert (bare.topic, bare.headers) == ("pets.runner.location_update", [])
    assert binary.topic == "pets.runner.events"
    attributes = {name: value.decode() for name, value in binary.headers}
    for name in ("id", "source", "type", "time"):
        assert attributes[f"ce_{name}"] == envelope[name]


def test_an_empty_prefix_means_bare_names() -> None:
    assert encoder(Form.STRUCTURED, "")(update()).topic == "runner.events"
    assert encoder(Form.BARE, "")(update()).topic == "runner.location_update"


def test_what_is_not_known_is_absent_and_not_null() -> None:
    event = next(
        e for e in events_in(replace(PLAN, unknown_booking=1)) if e.type.startswith("runner")
    )
    assert b"booking_id" not in encoder(Form.BARE, "")(event).value


@pytest.mark.parametrize(
    "text",
    ["2026-02-06T10:30:00.123456789Z", "1970-01-01T00:00:00.000000001Z"],
)
def test_times_keep_their_nanoseconds(text: str) -> None:
    assert rfc3339(nanoseconds(text)) == text


def test_times_are_cut_and_not_rounded() -> None:
    time_ns = nanoseconds("2026-12-31T23:59:59.999999999Z")
    assert rfc3339(time_ns, 3) == "2026-12-31T23:59:59.999Z"


def test_a_zone_is_heeded_and_needed() -> None:
    assert nanoseconds("2026-02-06T18:30:00.5+08:00") == nanoseconds("2026-02-06T10:30:00.5Z")
    with pytest.raises(ValueError, match="without zone"):
        nanoseconds("2026-02-06T10:30:00")
