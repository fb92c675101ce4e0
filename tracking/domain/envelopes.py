"""The three forms in which an event comes: bytes and headers -> type and data.

CloudEvents 1.0, JSON: the structured envelope on a shared topic, the bare data on a topic named
after its type, and the binary mode (headers `ce_*`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field

from tracking.domain import details
from tracking.errors import InvalidEvent

ENVELOPE_TOPICS: Final = ("booking.events", "runner.events")
# Of types, in characters.
MAX_TYPE: Final = 128

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
AwareTime = Annotated[datetime, Meta(tz=True)]
ShortText = Annotated[str, Meta(max_length=details.MAX_TEXT)]
TypeName = Annotated[str, Meta(min_length=1, max_length=MAX_TYPE)]


class Envelope(Struct):
    """An event's type, and its data as JSON."""

    type: TypeName
    data: Raw
    id: str = ""
    time: AwareTime | None = None


class RepairedEnvelope(Envelope):
    """One that was not quite what it should be; `dropped` names what it has lost."""

    found: dict[str, Any] | None = None  # the data, where JSON itself had to be read leniently
    dropped: list[str] = field(default_factory=list)


def envelope_of(topic: str, value: bytes, headers: Headers) -> Envelope:
    """Raises InvalidEvent for a type or data that is missing or no such thing."""
    if headers:
        attributes = {
            name.lower(): text or b"" for name, text in headers if name.lower()[:3] == "ce_"
        }
        if "ce_type" in attributes:
            return _binary_envelope(attributes, value)
    if topic in ENVELOPE_TOPICS:
        try:
            return _decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return _lenient_envelope(details.object_of(value))
    return Envelope(topic, Raw(value))


def _binary_envelope(attributes: dict[str, bytes], value: bytes) -> Envelope:
    """CloudEvents Kafka binding 1.0.2, section 3.2: attributes are UTF-8 headers."""
    found: dict[str, Any] = {"type": attributes["ce_type"].decode(errors="replace")}
    if "ce_id" in attributes:
        found["id"] = attributes["ce_id"].decode(errors="replace")
    if attributes.get("ce_time"):
        found["time"] = attributes["ce_time"].decode(errors="replace")
    return _repaired(found, Raw(value), "the header ce_type")


def _lenient_envelope(attributes: dict[str, Any]) -> Envelope:
    envelope = _repaired(attributes, Raw(), "type")
    envelope.found = attributes.get("data")
    if not isinstance(envelope.found, dict):
        raise InvalidEvent("data is missing, or no object")
    return envelope


def _repaired(found: dict[str, Any], data: Raw, name: str) -> RepairedEnvelope:
    type_, id_, time = found.get("type"), found.get("id", ""), found.get("time")
    # The replacement character stands for bytes that were not UTF-8.
    if not isinstance(type_, str) or not 0 < len(type_) <= MAX_TYPE or "\ufffd" in type_:
        raise InvalidEvent(f"{name} is missing, empty or longer than {MAX_TYPE} characters")
    if details.text_of(type_) != type_:
        raise InvalidEvent(f"{name} cannot be stored")
    envelope = RepairedEnvelope(type_, data)
    if isinstance(id_, str) and details.text_of(id_) == id_:
        envelope.id = id_
    else:
        envelope.id = details.text_of(id_) or ""
        envelope.dropped.append("id")
    if time is not None:
        try:
            envelope.time = msgspec.convert(time, AwareTime)
        except msgspec.ValidationError:
            envelope.dropped.append("time")
    return envelope


_decode = msgspec.json.Decoder(Envelope).decode
