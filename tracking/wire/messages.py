"""What viewers and other services get: value -> bytes, encoded once. Any thread may call."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from tracking.domain.times import rfc3339
from tracking.domain.waypoints import StoredWaypoint

SOURCE: Final = "service-tracking"

OFFSET: Final = len("+00:00")

_encode = msgspec.json.Encoder().encode


def whole_seconds(time: datetime) -> str:
    """Two of the apps reject a fraction of a second: 2026-02-06T10:30:00Z."""
    return _utc(time).isoformat(timespec="seconds")[:-OFFSET] + "Z"


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


class LocationUpdateMessage(msgspec.Struct, frozen=True, gc=False):
    """A live position. The apps read the first seven fields; none of them may be null."""

    booking_id: UUID
    runner_id: UUID
    latitude: float
    longitude: float
    speed_kmh: float
    heading_degrees: float
    timestamp: str
    seq: int
    recorded_at: str
    received_at: str
    type: str = "location_update"


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a room's subscribers get: encoded once, framed once."""

    seq: int  # a subscriber that has it drops this one
    frame: bytes
    first_seq: int  # the waypoints from here to `seq` are in it
    is_position: bool = True  # else a backfill of late waypoints, which only tracking.v1 knows


def text_frame(payload: bytes) -> bytes:
    """One unmasked, uncompressed, unfragmented text frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 1 << 16:
        return b"\x81\x7e" + length.to_bytes(2) + payload
    return b"\x81\x7f" + length.to_bytes(8) + payload


def location_update(waypoint: StoredWaypoint) -> Message:
    """One live position, the same for every viewer."""
    return Message(waypoint.seq, text_frame(_encode(position(waypoint))), waypoint.seq)


def position(waypoint: StoredWaypoint) -> LocationUpdateMessage:
    """What is said of a waypoint, live and as the last known position."""
    return LocationUpdateMessage(
        waypoint.booking_id,
        waypoint.runner_id,
        round(waypoint.latitude, 6),
        round(waypoint.longitude, 6),
        waypoint.speed_kmh or 0.0,
        waypoint.heading_degrees or 0.0,
        whole_seconds(waypoint.recorded_at),
        waypoint.seq,
        rfc3339(waypoint.recorded_at),
        rfc3339(waypoint.received_at),
    )


def envelope(event_id: UUID, type_: str, time: str, data: dict[str, Any]) -> bytes:
    """An outgoing event: CloudEvents 1.0, structured, as the other services write it."""
    return _encode(
        {
            "id": event_id,
            "source": SOURCE,
            "type": type_,
            "time": time,
            "datacontenttype": "application/json",
            "data": data,
        }
    )
