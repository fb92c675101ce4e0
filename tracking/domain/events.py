"""What Kafka brings: bytes -> checked value.

Three forms carry the same events (CloudEvents 1.0, JSON): the structured envelope on a shared
topic, the bare data on a topic named after its type, and the binary mode (headers `ce_*`). After
`decode` nothing is checked again: times are aware, positions are on the globe, numbers are finite.
Any thread may call.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta, Raw, Struct

from tracking.errors import InvalidEvent

ENVELOPE_TOPICS: Final = ("booking.events", "runner.events")

# Of types and booking numbers, in characters.
MAX_TEXT: Final = 128
# No vehicle on a road is faster; a phone that reports more has no fix.
MAX_SPEED_KMH: Final = 500.0
# PostgreSQL's real refuses what is too near to zero for it.
LEAST_MEASURE: Final = 1e-6
# A phone's clock may differ from the platform's by this much and still be believed.
CLOCK_TOLERANCE: Final = timedelta(seconds=60)
# Outside of it a number was read in the wrong unit (milliseconds for seconds) or made up.
FIRST_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
LAST_TIME: Final = datetime(2100, 1, 1, tzinfo=UTC)

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
Point: TypeAlias = tuple[float, float]  # longitude, latitude; WGS84 degrees

AwareTime = Annotated[datetime, Meta(tz=True)]
ShortText = Annotated[str, Meta(max_length=MAX_TEXT)]


class LocationUpdate(Struct, frozen=True, gc=False):
    """One reported position. `recorded_at` is `reported_at` unless the phone's clock was ahead."""

    runner_id: UUID
    booking_id: UUID | None
    longitude: float
    latitude: float
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: datetime
    reported_at: datetime
    received_at: datetime


class BookingEvent(Struct, frozen=True, gc=False):
    """One fact of a booking's life. `at` is what the runner's app says of the same moment."""

    booking_id: UUID
    kind: str
    occurred_at: datetime
    runner_id: UUID | None = None
    owner_id: UUID | None = None
    booking_number: str | None = None
    at: datetime | None = None
    pickup: Point | None = None
    dropoff: Point | None = None


Event: TypeAlias = LocationUpdate | BookingEvent


class _Envelope(Struct):
    type: ShortText
    data: Raw
    id: str = ""
    time: AwareTime | None = None


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
        envelope = _envelope(topic, value, headers)
        return Decoded(envelope.type, envelope.id, _event(envelope, kafka_time))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidEvent(_reason(error)) from None


def _envelope(topic: str, value: bytes, headers: Headers) -> _Envelope:
    if headers:
        attributes = {
            name.lower(): text or b"" for name, text in headers if name.lower()[:3] == "ce_"
        }
        if "ce_type" in attributes:
            return _binary_envelope(attributes, value)
    if topic in ENVELOPE_TOPICS:
        return _decode_envelope(value)
    return _Envelope(type=topic, data=Raw(value))


def _binary_envelope(attributes: dict[str, bytes], value: bytes) -> _Envelope:
    """CloudEvents Kafka binding 1.0.2, section 3.2: attributes are UTF-8 headers."""
    type_, time = attributes["ce_type"].decode(), attributes.get("ce_time")
    if not 0 < len(type_) <= MAX_TEXT:
        raise InvalidEvent(f"the header ce_type is empty or longer than {MAX_TEXT} characters")
    return _Envelope(
        type=type_,
        data=Raw(value),
        id=attributes.get("ce_id", b"").decode(),
        time=None if not time else msgspec.convert(time.decode(), AwareTime),
    )


def _event(envelope: _Envelope, kafka_time: datetime) -> Event | None:
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


def _location_update(envelope: _Envelope, kafka_time: datetime) -> LocationUpdate:
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


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_location = msgspec.json.Decoder(_LocationData).decode

# Types that say something about a booking -> the word under which it is stored.
BOOKING_KINDS: Final = {
    "booking.requested": "requested",
    "booking.accepted": "accepted",
    "booking.pet_picked_up": "picked_up",
    "booking.delivery_confirmed": "delivered",
    "booking.completed": "paid",
    "booking.cancelled": "cancelled",
}
# Known, and of no use here; like the unknown ones they are counted as ignored.
UNUSED_TYPES: Final = ("runner.online", "runner.offline", "runner.assigned")
KNOWN_TYPES: Final = frozenset({"runner.location_update", *BOOKING_KINDS, *UNUSED_TYPES})

_BOOKING_DECODERS: Final[dict[str, msgspec.json.Decoder[_BookingData]]] = {
    "requested": msgspec.json.Decoder(_RequestedData),
    "accepted": msgspec.json.Decoder(_AcceptedData),
    "picked_up": msgspec.json.Decoder(_PickedUpData),
    "delivered": msgspec.json.Decoder(_DeliveredData),
    "paid": msgspec.json.Decoder(_BookingData),
    "cancelled": msgspec.json.Decoder(_BookingData),
}
