"""tracking.domain.events: three forms in, checked values out, the rest refused with a reason."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.running import Trip, envelope, stamp
from tracking.domain.decoding import decode
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.errors import InvalidEvent

NOW = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
TRIP = Trip(NOW)
UPDATE = "runner.location_update"


def structured(type_: str, data: dict[str, Any]) -> bytes:
    return json.dumps(envelope(type_, data)).encode()


def update_of(data: dict[str, Any], kafka_time: datetime = NOW) -> LocationUpdate:
    event = decode("runner.events", structured(UPDATE, data), [], kafka_time).event
    assert isinstance(event, LocationUpdate)
    return event


def test_an_update_arrives_in_all_three_forms() -> None:
    data = TRIP.update(0)
    bare = json.dumps(data).encode()
    headers = [("ce_id", b"1"), ("ce_type", UPDATE.encode()), ("ce_time", stamp(NOW).encode())]
    forms = [
        decode("runner.events", structured(UPDATE, data), [], NOW),
        decode(UPDATE, bare, [], NOW),
        decode("runner.events", bare, headers, NOW),
    ]
    assert [form.type for form in forms] == [UPDATE] * 3
    assert forms[0].event == forms[1].event == forms[2].event
    assert forms[0].event == LocationUpdate(
        TRIP.runner_id, TRIP.booking_id, 106.8, -6.2, 36.5, 90.0, NOW, NOW, NOW, NOW
    )


def test_times_have_up_to_nine_fractional_digits_and_any_zone() -> None:
    update = update_of(TRIP.update(0, timestamp="2026-02-06T17:30:00.123456789+07:00"))
    assert update.reported_at == NOW + timedelta(microseconds=123457)
    assert update.reported_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("field", ["speed_kmh", "heading_degrees"])
@pytest.mark.parametrize("value", [-1, -0.5, None])
def test_a_negative_measure_is_unknown(field: str, value: float | None) -> None:
    assert getattr(update_of(TRIP.update(0, **{field: value})), field) is None


def test_a_measure_has_no_more_digits_than_the_database_keeps() -> None:
    assert update_of(TRIP.update(0, speed_kmh=1e-300)).speed_kmh == 0
    assert str(update_of(TRIP.update(0, speed_kmh=-0.0)).speed_kmh) == "0.0"
    assert update_of(TRIP.update(0, speed_kmh=32.123456789)).speed_kmh == 32.123
    turned = update_of(TRIP.update(0, heading_degrees=231.3199920654297))
    assert turned.heading_degrees == 231.32


def test_a_header_without_a_value_is_refused_only_where_it_is_needed() -> None:
    bare = json.dumps(TRIP.update(0)).encode()
    assert decode(UPDATE, bare, [("trace", None)], NOW).event is not None
    with pytest.raises(InvalidEvent, match="ce_type"):
        decode("runner.events", bare, [("ce_type", None)], NOW)


def test_the_booking_id_is_optional() -> None:
    data = TRIP.update(0)
    del data["booking_id"]
    assert update_of(data).booking_id is None


def test_a_phone_clock_that_is_ahead_is_corrected() -> None:
    ahead = update_of(TRIP.update(0, timestamp=stamp(NOW + timedelta(days=400))))
    assert ahead.recorded_at == NOW
    assert ahead.reported_at == NOW + timedelta(days=400)
    tolerated = update_of(TRIP.update(0, timestamp=stamp(NOW + timedelta(seconds=60))))
    assert tolerated.recorded_at == tolerated.reported_at


def test_an_events_own_clock_is_believed_up_to_a_minute_ahead_of_kafka() -> None:
    future = stamp(NOW + timedelta(days=1))
    update = update_of(TRIP.update(0, timestamp=future, occurred_at=future))
    assert update.recorded_at == NOW + timedelta(seconds=60)


def test_a_late_report_keeps_its_time() -> None:
    late = update_of(TRIP.update(0, timestamp=stamp(NOW - timedelta(hours=5))))
    assert late.recorded_at == NOW - timedelta(hours=5)


MALFORMED = {
    "longitude beyond the globe": {"longitude": 180.1},
    "latitude beyond the globe": {"latitude": -90.5},
    "text for a number": {"latitude": "-6.2"},
    "true for a number": {"latitude": True},
    "null position": {"latitude": None},
    "infinite by its exponent": {"latitude": 1e400},
    "no zone": {"timestamp": "2026-02-06T10:30:00"},
    "milliseconds for a time": {"timestamp": 1770373800000},
    "before 2000": {"timestamp": "1970-01-01T00:00:00Z"},
    "after 2100": {"timestamp": "9999-12-31T23:59:59Z"},
    "not an id": {"runner_id": "runner-1"},
    "empty booking id": {"booking_id": ""},
    "a list for an id": {"booking_id": []},
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=list(MALFORMED))
def test_a_malformed_update_is_refused_with_a_reason(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent, match=r"."):
        update_of(TRIP.update(0, **change))


@pytest.mark.parametrize("field", ["runner_id", "latitude", "longitude", "timestamp"])
def test_a_missing_field_is_named(field: str) -> None:
    data = TRIP.update(0)
    del data[field]
    with pytest.raises(InvalidEvent, match=field):
        update_of(data)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"type": 1, "data": {}}',
        b'{"data": {}}',
        b'{"type": "runner.location_update", "data": NaN}',
        b'{"type": "runner.location_update", "data": {"latitude": ' + b"9" * 5000 + b"}}",
        b'{"type": "runner.location_update", "data": ' + b"[" * 100_000 + b"}",
        b'{"type": "booking.accepted", "data": {"booking_id": "\\ud800"}}',
    ],
    ids=repr,
)
def test_bytes_that_are_no_event_are_refused(value: bytes | None) -> None:
    with pytest.raises(InvalidEvent):
        decode("runner.events", value, [], NOW)


def test_unknown_types_and_fields_are_normal() -> None:
    decoded = decode("booking.events", structured("booking.reviewed", {"stars": 5}), [], NOW)
    assert (decoded.type, decoded.event) == ("booking.reviewed", None)
    assert update_of(TRIP.update(0, battery=0.5)).speed_kmh == 36.5


def test_a_request_brings_where_the_trip_begins_and_ends() -> None:
    data = {
        **TRIP.identity(), "pet_type": "cat", "pet_name": "Miau", "pickup_lat": -6.2,
        "pickup_lng": 106.8, "dropoff_lat": -6.3, "dropoff_lng": 106.9, "currency": "IDR",
        "estimated_price_cents": 100, "occurred_at": stamp(NOW),
    }  # fmt: skip
    event = decode("booking.requested", json.dumps(data).encode(), [], NOW).event
    assert isinstance(event, BookingEvent)
    assert (event.kind, event.pickup, event.dropoff) == ("requested", (106.8, -6.2), (106.9, -6.3))


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    try:
        decode("runner.events", value, [], NOW)
    except InvalidEvent:
        pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(TRIP.update(0))), json_values)
def test_no_value_in_any_field_raises_anything_else(field: str, value: Any) -> None:
    try:
        update_of(TRIP.update(0, **{field: value}))
    except InvalidEvent:
        pass
