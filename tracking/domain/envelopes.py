"""The three forms in which an event comes: bytes and headers -> type and data.

CloudEvents 1.0, JSON: the structured envelope on a shared topic, the bare data on a topic named
after its type, and the binary mode (headers `ce_*`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from tracking.errors import InvalidEvent

ENVELOPE_TOPICS: Final = ("booking.events", "runner.events")
# Of types and booking numbers, in characters.
MAX_TEXT: Final = 128

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
AwareTime = Annotated[datetime, Meta(tz=True)]
ShortText = Annotated[str, Meta(max_length=MAX_TEXT)]


class Envelope(Struct):
    type: ShortText
    data: Raw
    id: str = ""
    time: AwareTime | None = None


def envelope_of(topic: str, value: bytes, headers: Headers) -> Envelope:
    if headers:
        attributes = {
            name.lower(): text or b"" for name, text in headers if name.lower()[:3] == "ce_"
        }
        if "ce_type" in attributes:
            return _binary_envelope(attributes, value)
    if topic in ENVELOPE_TOPICS:
        return _decode_envelope(value)
    return Envelope(type=topic, data=Raw(value))


def _binary_envelope(attributes: dict[str, bytes], value: bytes) -> Envelope:
    """CloudEvents Kafka binding 1.0.2, section 3.2: attributes are UTF-8 headers."""
    type_, time = attributes["ce_type"].decode(), attributes.get("ce_time")
    if not 0 < len(type_) <= MAX_TEXT:
        raise InvalidEvent(f"the header ce_type is empty or longer than {MAX_TEXT} characters")
    return Envelope(
        type=type_,
        data=Raw(value),
        id=attributes.get("ce_id", b"").decode(),
        time=None if not time else msgspec.convert(time.decode(), AwareTime),
    )


_decode_envelope = msgspec.json.Decoder(Envelope).decode
