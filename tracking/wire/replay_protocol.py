"""What `tracking.v1` has besides when a trip is shown again. Any thread may call."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct

from tracking.domain.playback import LEAST_SPEED, MOST_SPEED, ReplayOptions, Shown, Silence
from tracking.domain.times import moment, rfc3339
from tracking.domain.tracks import LiveState
from tracking.errors import InvalidRequest
from tracking.wire import protocol
from tracking.wire.messages import LocationUpdateMessage, location_update
from tracking.wire.protocol import CatchUp, Refresh, Welcome, frame_of, late_waypoints


class ReplayPart(Struct, frozen=True):
    """Of `welcome`: how fast, in which order, and the first and last time that is shown.

    Both are null if there is nothing to show.
    """

    speed: float
    order: str
    # `from` and `to` are words of Python.
    from_: str | None = msgspec.field(name="from")
    to: str | None


class ReplayWelcome(Welcome, frozen=True, tag_field="type", tag="welcome"):
    """As of a live stream; `last_position` is the one that stood when the replay begins."""

    replay: ReplayPart


class ReplayState(Struct, frozen=True, tag_field="type", tag="replay"):
    """The answer to each of the client's messages. `last_position`: null unless it sought."""

    booking_id: UUID
    at: str
    speed: float
    paused: bool
    sought: bool
    last_position: LocationUpdateMessage | None


class Gap(Struct, frozen=True, tag_field="type", tag="gap"):
    """Nothing came between these times: it is shown in `shown_s` seconds."""

    booking_id: UUID
    from_: str = msgspec.field(name="from")
    to: str
    silent_s: float
    shown_s: float


class Seek(Struct, frozen=True, tag_field="type", tag="seek"):
    """Go on at this time of the trip."""

    to: str


class Speed(Struct, frozen=True, tag_field="type", tag="speed"):
    """Seconds of the trip in one second."""

    speed: float


class Pause(Struct, frozen=True, tag_field="type", tag="pause"):
    """Stand still."""


class Resume(Struct, frozen=True, tag_field="type", tag="resume"):
    """Go on."""


ClientMessage: TypeAlias = Seek | Speed | Pause | Resume | CatchUp | Refresh
_decode: Callable[[str | bytes], ClientMessage] = msgspec.json.Decoder(ClientMessage).decode


def client_message(text: str | bytes) -> ClientMessage:
    """Raises InvalidRequest for anything that a replay does not know."""
    try:
        message = _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidRequest("not a message of a replay") from None
    if isinstance(message, Speed) and not LEAST_SPEED <= message.speed <= MOST_SPEED:
        raise InvalidRequest(f"speed is from {LEAST_SPEED} to {MOST_SPEED:g}")
    return message


def sought(message: Seek) -> datetime:
    """Raises InvalidRequest."""
    at = moment(message.to)
    if at is None:
        raise InvalidRequest("to is no time")
    return at


def welcome(
    state: LiveState,
    options: ReplayOptions,
    bounds: tuple[datetime, datetime] | None,
    expires_at: datetime,
) -> bytes:
    """The frame. `bounds`: of what is shown; None if that is nothing."""
    said = protocol.welcome(state, None, recovered=None, expires_at=expires_at)
    first, last = (None, None) if bounds is None else map(rfc3339, bounds)
    fields = {name: getattr(said, name) for name in said.__struct_fields__}
    part = ReplayPart(options.speed, options.order, first, last)
    return frame_of(ReplayWelcome(**fields, replay=part))


def shown(message: Shown) -> bytes:
    """The very frame that live viewers get of a position."""
    if message.is_late:
        return late_waypoints(message.waypoints).frame
    return location_update(message.waypoints[0]).frame


def gap(booking_id: UUID, silence: Silence) -> bytes:
    silent_s = (silence.end - silence.start).total_seconds()
    times = rfc3339(silence.start), rfc3339(silence.end)
    return frame_of(Gap(booking_id, *times, silent_s, silence.shown_s))
