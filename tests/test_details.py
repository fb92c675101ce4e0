"""tracking.domain.details: a detail that nothing needs never costs its event."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.running import Trip, envelope, stamp
from tracking.domain.decoding import Decoded, decode
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.errors import InvalidEvent

NOW = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
TRIP = Trip(NOW)
UPDATE = "runner.location_update"

# What stands in the place of a detail, as raw JSON.
UNUSABLE = (
    "true", "[]", "{}", "NaN", "Infinity", '"fast"', '"NaN"', '""', "1" + "0" * 400, "9" * 5_000,
    '"\\ud83d"', '"\\u0000"', "1e400",
)  # fmt: skip


def decoded(type_: str, data: dict[str, Any], field: str = "", raw: str = "null") -> Decoded:
    """The data with raw JSON in the place of one field."""
    text = json.dumps(envelope(type_, {**data, **({field: "HERE"} if field else {})}))
    topic = f"{type_.partition('.')[0]}.events"
    return decode(topic, text.replace('"HERE"', raw).encode(), [], NOW)


def update_of(found: Decoded) -> LocationUpdate:
    assert isinstance(found.event, LocationUpdate)
    return found.event


def fact_of(found: Decoded) -> BookingEvent:
    assert isinstance(found.event, BookingEvent)
    return found.event


def booking(**changes: Any) -> dict[str, Any]:
    return {**TRIP.identity(), "booking_number": "BK-1", "occurred_at": stamp(NOW), **changes}


@pytest.mark.parametrize(
    ("field", "value"),
    [("heading_degrees", 511), ("heading_degrees", 360.04), ("speed_kmh", 65535)],
)
def test_not_available_in_receivers_language_is_unknown(field: str, value: float) -> None:
    found = decoded(UPDATE, TRIP.update(0, **{field: value}))
    assert getattr(update_of(found), field) is None
    assert found.dropped == (field,)


@pytest.mark.parametrize("raw", UNUSABLE)
@pytest.mark.parametrize("field", ["speed_kmh", "heading_degrees", "occurred_at"])
def test_an_unusable_detail_does_not_cost_the_position(field: str, raw: str) -> None:
    found = decoded(UPDATE, TRIP.update(0), field, raw)
    update, good = update_of(found), update_of(decoded(UPDATE, TRIP.update(0)))
    assert (update.latitude, update.longitude) == (good.latitude, good.longitude)
    assert (update.runner_id, update.booking_id) == (good.runner_id, good.booking_id)
    assert found.dropped == (field,)


@pytest.mark.parametrize("raw", UNUSABLE)
def test_a_field_that_nobody_reads_may_hold_anything(raw: str) -> None:
    found = decoded("booking.accepted", booking(), "pet_name", raw)
    assert fact_of(found).runner_id == TRIP.runner_id
    assert found.dropped == ()


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ('"' + "B" * 200 + '"', "B" * 128),
        ("20260206", "20260206"),
        ("12345678901234567890123", "12345678901234567890123"),
        ('"BK \\ud83d 7"', "BK  7"),
        ('"BK\\u00007"', "BK7"),
        ("true", None),
        ("[1]", None),
        ("NaN", None),
    ],
)
def test_a_booking_number_is_kept_as_far_as_it_can_be(raw: str, kept: str | None) -> None:
    found = decoded("booking.accepted", booking(), "booking_number", raw)
    assert fact_of(found).booking_number == kept
    assert found.dropped == ("booking_number",)


@pytest.mark.parametrize(
    ("type_", "field"),
    [
        ("booking.pet_picked_up", "picked_up_at"),
        ("booking.delivery_confirmed", "delivered_at"),
    ],
)
@pytest.mark.parametrize("value", ["0001-01-01T00:00:00Z", "soon", 1770373800000, True])
def test_a_moment_that_is_none_leaves_the_events_own(type_: str, field: str, value: Any) -> None:
    found = decoded(type_, booking(**{field: value}))
    assert (fact_of(found).occurred_at, fact_of(found).at) == (NOW, None)
    assert found.dropped == (field,)


@pytest.mark.parametrize("change", [{"pickup_lat": 91}, {"pickup_lng": "east"}, {}])
def test_a_request_with_half_a_place_still_says_whose_it_is(change: dict[str, Any]) -> None:
    places = {"pickup_lat": -6.2, "dropoff_lat": -6.3, "dropoff_lng": 106.9}
    found = decoded("booking.requested", booking(**{**places, **change}))
    fact = fact_of(found)
    assert (fact.owner_id, fact.pickup, fact.dropoff) == (TRIP.owner_id, None, (106.9, -6.3))


def test_an_envelope_is_only_needed_for_what_it_holds() -> None:
    whole = {**envelope(UPDATE, TRIP.update(0)), "id": 17, "time": "yesterday"}
    found = decode("runner.events", json.dumps(whole).encode(), [], NOW)
    assert (found.id, found.dropped) == ("17", ("id", "time"))
    assert update_of(found).occurred_at == NOW
    headers = [("ce_type", UPDATE.encode()), ("ce_time", b"yesterday"), ("ce_id", b"\xff")]
    binary = decode("runner.events", json.dumps(TRIP.update(0)).encode(), headers, NOW)
    assert update_of(binary).booking_id == TRIP.booking_id


def test_a_booking_event_is_not_ordered_by_a_guess() -> None:
    data = booking()
    del data["occurred_at"]
    whole = {**envelope("booking.accepted", data), "time": "yesterday"}
    with pytest.raises(InvalidEvent, match="time"):
        decode("booking.events", json.dumps(whole).encode(), [], NOW)
    with pytest.raises(InvalidEvent, match="occurred_at"):
        decoded("booking.accepted", booking(), "occurred_at", '"soon"')


@pytest.mark.parametrize(
    ("type_", "field"),
    [
        (UPDATE, "booking_id"),
        (UPDATE, "runner_id"),
        (UPDATE, "latitude"),
        (UPDATE, "timestamp"),
        ("booking.accepted", "booking_id"),
        ("booking.accepted", "runner_id"),
        ("booking.accepted", "owner_id"),
    ],
)
def test_what_identifies_an_event_is_needed(type_: str, field: str) -> None:
    data = TRIP.update(0) if type_ == UPDATE else booking()
    with pytest.raises(InvalidEvent, match=field):
        decoded(type_, data, field, '"half"')
