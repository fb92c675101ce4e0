"""The events that booking and runner services publish, and the records they travel in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

BOOKING = "service-booking"
RUNNER = "service-runner"


class BookingRequested(msgspec.Struct, frozen=True):
    """Where the pet goes, and for whom."""

    booking_id: str
    booking_number: str
    owner_id: str
    pet_type: str
    pet_name: str
    pickup_lat: float
    pickup_lng: float
    dropoff_lat: float
    dropoff_lng: float
    estimated_price_cents: int
    currency: str
    occurred_at: str


class BookingChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """`booking.accepted`, `pet_picked_up`, `delivery_confirmed` and `completed`."""

    booking_id: str
    booking_number: str
    runner_id: str
    owner_id: str
    occurred_at: str
    picked_up_at: str | None = None
    delivered_at: str | None = None
    final_price_cents: int | None = None
    currency: str | None = None


class LocationUpdate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`timestamp` is the phone's clock, `occurred_at` the runner service's."""

    runner_id: str
    latitude: float
    longitude: float
    speed_kmh: float
    heading_degrees: float
    timestamp: str
    occurred_at: str
    booking_id: str | None = None


class Event(NamedTuple):
    """One event, and when it is produced: a repeated produce has the same `id` and `time`."""

    due_ns: int
    id: str
    source: str
    type: str
    time: str
    data: BookingRequested | BookingChanged | LocationUpdate


class Record(NamedTuple):
    """What goes to Kafka; the fields are the arguments of KafkaProducer.send."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Form(StrEnum):
    """How an event becomes a record."""

    STRUCTURED = "structured"  # the whole envelope is the value
    BARE = "bare"  # a topic for each type, the data is the value
    BINARY = "binary"  # CloudEvents: the data is the value, the envelope is headers


class Envelope(msgspec.Struct, frozen=True):
    """The light CloudEvents envelope, without `specversion`."""

    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    data: BookingRequested | BookingChanged | LocationUpdate | msgspec.Raw


Encode = Callable[[Event], Record]


def encoder(form: Form, prefix: str) -> Encode:
    """The function that makes records of events; an empty prefix means bare topic names."""
    dotted = f"{prefix}." if prefix else ""
    json = msgspec.json.Encoder()

    def structured(event: Event) -> Record:
        _, id_, source, type_, time, data = event
        value = json.encode(Envelope(id_, source, type_, time, "application/json", data))
        return Record(_topic(dotted, type_), id_.encode(), value, [])

    def bare(event: Event) -> Record:
        return Record(dotted + event.type, event.id.encode(), json.encode(event.data), [])

    def binary(event: Event) -> Record:
        topic = _topic(dotted, event.type)
        return Record(topic, event.id.encode(), json.encode(event.data), _headers(event))

    return {Form.STRUCTURED: structured, Form.BARE: bare, Form.BINARY: binary}[form]


def _topic(dotted: str, type_: str) -> str:
    return f"{dotted}{type_.partition('.')[0]}.events"


def _headers(event: Event) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", event.time.encode()),
        ("content-type", b"application/json"),
    ]


def rfc3339(time_ns: int, digits: int = 9) -> str:
    """Nanoseconds since 1970 in UTC, with so many fractional digits (cut, not rounded)."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    return f"{_whole_seconds(seconds)}.{fraction:09d}"[: 20 + digits] + "Z"


@lru_cache(maxsize=64)  # the events of one second share it
def _whole_seconds(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def nanoseconds(text: str) -> int:
    """The inverse of `rfc3339`; nanoseconds since 1970 of any RFC 3339 time with a zone."""
    whole, dot, rest = text.partition(".")
    fraction = ""
    if dot:
        fraction = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = whole + rest[len(fraction) :]
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("a time without zone")
    return int(parsed.timestamp()) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
