"""Bytes -> checked event. Any thread may call.

After `decode` nothing is checked again: times are aware, positions are on the globe, numbers are
finite. A detail that nothing needs never costs the event (tracking/domain/details.py).
"""

from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from tracking.domain import details
from tracking.domain.envelopes import Envelope, Headers, RepairedEnvelope, envelope_of
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
from tracking.domain.payloads import (
    BOOKING_DECODERS,
    LOCATION_DECODER,
    LOCATION_UPDATE,
    WHOLE_LOCATION_DECODER,
    BookingData,
    DeliveredData,
    LocationData,
    RequestedData,
)
from tracking.errors import InvalidEvent

# No vehicle on a road is faster; receivers say 655.35 or 65535 for "not available".
MAX_SPEED_KMH: Final = 500.0
# PostgreSQL's real gives six digits back as they were: live viewers get what is stored.
DECIMALS: Final = 3

# Where nearly all events come from: read in one pass, envelope and data.
LOCATION_TOPIC: Final = "runner.events"

D = TypeVar("D", bound=Struct)


class Decoded(Struct, frozen=True, gc=False):
    """`event` is None for a type that this service does not use.

    `dropped` names the details that could not be used, or not as they were.
    """

    type: str
    id: str
    event: Event | None
    dropped: tuple[str, ...] = ()


def decode(topic: str, value: bytes | None, headers: Headers, kafka_time: datetime) -> Decoded:
    """The event in one Kafka record.

    `topic` is without the deployment's prefix. Raises InvalidEvent with a reason that names the
    field and never its content.
    """
    if value is None:
        raise InvalidEvent("no value (tombstone)")
    if topic == LOCATION_TOPIC and not headers:
        try:
            whole = WHOLE_LOCATION_DECODER.decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # another type, or one that has to be looked at closely
        else:
            lost: list[str] = []
            update = _located(whole.data, whole.time, kafka_time, lost)
            return Decoded(LOCATION_UPDATE, whole.id, update, tuple(lost))
    envelope = envelope_of(topic, value, headers)
    dropped = [*envelope.dropped] if isinstance(envelope, RepairedEnvelope) else []
    event = _event(envelope, kafka_time, dropped)
    return Decoded(envelope.type, envelope.id, event, tuple(dropped))


def _event(envelope: Envelope, kafka_time: datetime, dropped: list[str]) -> Event | None:
    if envelope.type == LOCATION_UPDATE:
        data = _data(LOCATION_DECODER, envelope, ("booking_id",), dropped)
        return _located(data, envelope.time, kafka_time, dropped)
    kind = BOOKING_KINDS.get(envelope.type)
    return None if kind is None else _booking_event(kind, envelope, kafka_time, dropped)


def _booking_event(
    kind: str, envelope: Envelope, kafka_time: datetime, dropped: list[str]
) -> BookingEvent:
    data = _data(BOOKING_DECODERS[kind], envelope, ("occurred_at",), dropped)
    if data.occurred_at is None and "time" in dropped:  # it would have ordered the event
        raise InvalidEvent("time is no time, and there is no occurred_at")
    return BookingEvent(
        booking_id=data.booking_id,
        kind=kind,
        occurred_at=_plausible("occurred_at", data.occurred_at or envelope.time or kafka_time),
        runner_id=data.runner_id,
        owner_id=data.owner_id,
        booking_number=_storable("booking_number", data.booking_number, dropped),
        at=_moment(data, dropped),
        pickup=_pickup(data, dropped),
        dropoff=_dropoff(data, dropped),
        heard_at=kafka_time,
    )


def _located(
    data: LocationData, time: datetime | None, kafka_time: datetime, dropped: list[str]
) -> LocationUpdate:
    _on_the_globe(data.longitude, data.latitude)
    reported_at = _plausible("timestamp", data.timestamp)
    occurred_at = _first_plausible(data.occurred_at, time, dropped) or kafka_time
    believed = min(occurred_at, kafka_time + CLOCK_TOLERANCE)
    speed, heading = data.speed_kmh, data.heading_degrees
    return LocationUpdate(
        runner_id=data.runner_id,
        booking_id=data.booking_id,
        longitude=data.longitude,
        latitude=data.latitude,
        speed_kmh=_measured("speed_kmh", speed, MAX_SPEED_KMH, dropped),
        heading_degrees=_measured("heading_degrees", heading, 360.0, dropped),
        # A time in the future is that of a wrong clock: corrected, not believed.
        recorded_at=believed if reported_at > believed + CLOCK_TOLERANCE else reported_at,
        reported_at=reported_at,
        received_at=kafka_time,
        occurred_at=believed,
    )


def _data(
    decoder: msgspec.json.Decoder[D],
    envelope: Envelope,
    needed: tuple[str, ...],
    dropped: list[str],
) -> D:
    """The typed data; only what is not as its type says is looked at a second time."""
    found = envelope.found if isinstance(envelope, RepairedEnvelope) else None
    if found is None:
        try:
            return decoder.decode(envelope.data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            found = details.object_of(bytes(envelope.data))
    value, names = details.checked(decoder.type, found, needed)
    dropped += names
    return value


def _first_plausible(
    occurred_at: datetime | None, time: datetime | None, dropped: list[str]
) -> datetime | None:
    """When an update occurred: it orders nothing, so that another witness will do."""
    for name, told in (("occurred_at", occurred_at), ("time", time)):
        if told is not None:
            if FIRST_TIME <= told < LAST_TIME:
                return told if told.tzinfo is UTC else told.astimezone(UTC)
            dropped.append(name)
    return None


def _plausible(field: str, time: datetime) -> datetime:
    if not FIRST_TIME <= time < LAST_TIME:
        raise InvalidEvent(f"{field} is not between the years 2000 and 2100")
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _on_the_globe(longitude: float, latitude: float) -> None:
    if not (abs(longitude) <= 180 and abs(latitude) <= 90):  # also rejects NaN
        raise InvalidEvent("not on the globe")


def _measured(field: str, number: float | None, limit: float, dropped: list[str]) -> float | None:
    """None when unknown, for which phones say a negative number and receivers a large one."""
    if number is None or number < 0:
        return None
    if not number <= limit:
        dropped.append(field)
        return None
    return round(number, DECIMALS) + 0.0  # no -0


def _storable(field: str, text: str | None, dropped: list[str]) -> str | None:
    if text is not None and "\0" in text:  # valid JSON, but no PostgreSQL text
        dropped.append(field)
        return details.text_of(text)
    return text


def _moment(data: BookingData, dropped: list[str]) -> datetime | None:
    """What the runner's app says of the pick-up or the delivery."""
    name = "delivered_at" if isinstance(data, DeliveredData) else "picked_up_at"
    told: datetime | None = getattr(data, name, None)
    if told is None or FIRST_TIME <= told < LAST_TIME:
        return None if told is None else told.astimezone(UTC)
    dropped.append(name)
    return None


def _pickup(data: BookingData, dropped: list[str]) -> Point | None:
    if not isinstance(data, RequestedData):
        return None
    return _point("pickup", data.pickup_lng, data.pickup_lat, dropped)


def _dropoff(data: BookingData, dropped: list[str]) -> Point | None:
    if not isinstance(data, RequestedData):
        return None
    return _point("dropoff", data.dropoff_lng, data.dropoff_lat, dropped)


def _point(
    name: str, longitude: float | None, latitude: float | None, dropped: list[str]
) -> Point | None:
    if longitude is not None and latitude is not None:
        if abs(longitude) <= 180 and abs(latitude) <= 90:
            return longitude, latitude
        dropped.append(name)
    return None
