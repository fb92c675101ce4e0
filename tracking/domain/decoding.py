"""Bytes -> checked event. Any thread may call.

After `decode` nothing is checked again: times are aware, positions are on the globe, numbers are
finite.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from tracking.domain.envelopes import AwareTime, Envelope, Headers, ShortText, envelope_of
from tracking.domain.events import (
    BOOKING_KINDS,
    CLOCK_TOLERANCE,
    FIRST_TIME,
    LAST_TIME,
    BookingEvent,
    Event,
    LocationUpdate,
    Point,
)
from tracking.errors import InvalidEvent

# No vehicle on a road is faster; a phone that reports more has no fix.
MAX_SPEED_KMH: Final = 500.0
# PostgreSQL's real refuses what is too near to zero for it.
LEAST_MEASURE: Final = 1e-6


class _LocationData(Struct):
    runner_id: UUID
    latitude: float
    longitude: float
    timestamp: AwareTime
    booking_id: UUID | None = None
    speed_kmh: float | None = None
    heading_degrees: float | None = None
    occurred_at: AwareTime | None = None


class _BookingData(Struct):
    booking_id: UUID
    booking_number: ShortText | None = None
    owner_id: UUID | None = None
    runner_id: UUID | None = None
    occurred_at: AwareTime | None = None


class _RequestedData(_BookingData, kw_only=True):
    owner_id: UUID
    pickup_lat: float
    pickup_lng: float
    dropoff_lat: float
    dropoff_lng: float


class _AcceptedData(_BookingData, kw_only=True):
    owner_id: UUID
    runner_id: UUID


class _PickedUpData(_BookingData, kw_only=True):
    picked_up_at: AwareTime | None = None


class _DeliveredData(_BookingData, kw_only=True):
    delivered_at: AwareTime | None = None


class Decoded(Struct, frozen=True, gc=False):
    """`event` is None for a type that this service does not use."""

    type: str
    id: str
    event: Event | None


def decode(topic: str, value: bytes | None, headers: Headers, kafka_time: datetime) -> Decoded:
    """The event in one Kafka record.

    `topic` is without the deployment's prefix. Raises InvalidEvent with a reason that names the
    field and never its content.
    """
    if value is None:
        raise InvalidEvent("no value (tombstone)")
    try:
        envelope = envelope_of(topic, value, headers)
        return Decoded(envelope.type, envelope.id, _event(envelope, kafka_time))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidEvent(_reason(error)) from None


def _event(envelope: Envelope, kafka_time: datetime) -> Event | None:
    if envelope.type == "runner.location_update":
        return _location_update(envelope, kafka_time)
    kind = BOOKING_KINDS.get(envelope.type)
    if kind is None:
        return None
    data = _BOOKING_DECODERS[kind].decode(envelope.data)
    occurred_at = _plausible("occurred_at", data.occurred_at or envelope.time or kafka_time)
    at = getattr(data, "picked_up_at", None) or getattr(data, "delivered_at", None)
    return BookingEvent(
        booking_id=data.booking_id,
        kind=kind,
        occurred_at=occurred_at,
        runner_id=data.runner_id,
        owner_id=data.owner_id,
        booking_number=_storable("booking_number", data.booking_number),
        at=None if at is None else _plausible("picked_up_at or delivered_at", at),
        pickup=_pickup(data),
        dropoff=_dropoff(data),
    )


def _location_update(envelope: Envelope, kafka_time: datetime) -> LocationUpdate:
    data = _decode_location(envelope.data)
    _on_the_globe(data.longitude, data.latitude)
    occurred_at = _plausible("occurred_at", data.occurred_at or envelope.time or kafka_time)
    reported_at = _plausible("timestamp", data.timestamp)
    return LocationUpdate(
        runner_id=data.runner_id,
        booking_id=data.booking_id,
        longitude=data.longitude,
        latitude=data.latitude,
        speed_kmh=_measured("speed_kmh", data.speed_kmh, MAX_SPEED_KMH),
        heading_degrees=_measured("heading_degrees", data.heading_degrees, 360.0),
        recorded_at=_recorded_at(reported_at, occurred_at, kafka_time),
        reported_at=reported_at,
        received_at=kafka_time,
    )


def _recorded_at(reported_at: datetime, occurred_at: datetime, kafka_time: datetime) -> datetime:
    """The reported time, unless it lies in the future: a wrong clock is corrected, not believed."""
    believed = min(occurred_at, kafka_time + CLOCK_TOLERANCE)
    return believed if reported_at > believed + CLOCK_TOLERANCE else reported_at


def _plausible(field: str, time: datetime) -> datetime:
    if not FIRST_TIME <= time < LAST_TIME:
        raise InvalidEvent(f"{field} is not between the years 2000 and 2100")
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _on_the_globe(longitude: float, latitude: float) -> None:
    if not (abs(longitude) <= 180 and abs(latitude) <= 90):  # also refuses NaN
        raise InvalidEvent("not on the globe")


def _measured(field: str, number: float | None, limit: float) -> float | None:
    """None when unknown, for which phones say a negative number."""
    if number is None or number < 0:
        return None
    if not number <= limit:
        raise InvalidEvent(f"{field} is above {limit:g}")
    return number if number >= LEAST_MEASURE else 0.0


def _storable(field: str, text: str | None) -> str | None:
    if text is not None and "\0" in text:  # valid JSON, but no PostgreSQL text
        raise InvalidEvent(f"{field} contains a NUL character")
    return text


def _pickup(data: _BookingData) -> Point | None:
    if not isinstance(data, _RequestedData):
        return None
    _on_the_globe(data.pickup_lng, data.pickup_lat)
    return data.pickup_lng, data.pickup_lat


def _dropoff(data: _BookingData) -> Point | None:
    if not isinstance(data, _RequestedData):
        return None
    _on_the_globe(data.dropoff_lng, data.dropoff_lat)
    return data.dropoff_lng, data.dropoff_lat


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)


_decode_location = msgspec.json.Decoder(_LocationData).decode

_BOOKING_DECODERS: Final[dict[str, msgspec.json.Decoder[_BookingData]]] = {
    "requested": msgspec.json.Decoder(_RequestedData),
    "accepted": msgspec.json.Decoder(_AcceptedData),
    "picked_up": msgspec.json.Decoder(_PickedUpData),
    "delivered": msgspec.json.Decoder(_DeliveredData),
    "paid": msgspec.json.Decoder(_BookingData),
    "cancelled": msgspec.json.Decoder(_BookingData),
}
