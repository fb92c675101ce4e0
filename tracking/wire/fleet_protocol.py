"""`fleet.v1`: what its messages are. Any thread may call; docs/protocol.md explains.

`heartbeat`, `token_expiring` and `refresh` are those of `tracking.v1`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from tracking.domain.times import rfc3339
from tracking.errors import InvalidRequest
from tracking.wire.messages import text_frame
from tracking.wire.protocol import HEARTBEAT_S, Refresh

SUBPROTOCOL: Final = "fleet.v1"
# Rows of one page of a snapshot: some 90 kB as text.
PAGE: Final = 500

_encode = msgspec.json.Encoder().encode


class Row(Struct, frozen=True, array_like=True, gc=False):
    """One trip, as an array in this order. Unknown is null: speed and heading, too."""

    booking_id: UUID
    booking_number: str | None
    status: str
    phase: str
    freshness_state: str | None  # null when the trip is over
    freshness_reason: str | None
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    heading_degrees: float | None
    recorded_at: int | None
    received_at: int | None
    seq: int
    distance_m: float
    started_at: int
    arrival: str | None  # approaching, arrived or left: the end of the way that `phase` names
    arrival_at: int | None


COLUMNS: Final = Row.__struct_fields__


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The first message: up to which version what follows at once brings the client."""

    epoch: str
    version: int
    columns: tuple[str, ...]
    heartbeat_s: int
    recovered: bool | None
    token_expires_at: str


class Snapshot(Struct, frozen=True, tag_field="type", tag="snapshot"):
    """A page of the trips that are active; `rows` are encoded already, each a `Row`."""

    rows: Sequence[Raw]
    more: bool


class Changes(Struct, frozen=True, tag_field="type", tag="changes"):
    """The rows that changed; of `removed`, which are among them, the trips are over."""

    version: int
    rows: Sequence[Raw]
    removed: list[str]


_decode: Callable[[str | bytes], Refresh] = msgspec.json.Decoder(Refresh).decode


def client_message(text: str | bytes) -> Refresh:
    """Raises InvalidRequest for anything that the protocol does not know."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidRequest("not a message of fleet.v1") from None


def milliseconds(time: datetime) -> int:
    """Since 1970-01-01 UTC, cut. Half a microsecond makes up for what a float leaves out."""
    return int(time.timestamp() * 1000 + 0.0005)


def encoded(row: Row) -> Raw:
    """Once for all viewers and all messages that it is in."""
    return Raw(_encode(row))


def welcome(epoch: str, version: int, *, recovered: bool | None, expires_at: datetime) -> bytes:
    message = Welcome(epoch, version, COLUMNS, HEARTBEAT_S, recovered, rfc3339(expires_at))
    return text_frame(_encode(message))


def snapshot(rows: Sequence[Raw], *, more: bool) -> bytes:
    return text_frame(_encode(Snapshot(rows, more)))


def changes(version: int, rows: Sequence[Raw], removed: list[str]) -> bytes:
    return text_frame(_encode(Changes(version, rows, removed)))
