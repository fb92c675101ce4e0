"""May this connection be let in? All that is checked before the upgrade. IOLoop thread."""

import base64
import binascii
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError

from handlers.base import SUBPROTOCOL_TOKEN, BaseHandler, uuid_of
from handlers.client_address import network_of
from handlers.limits import Slot
from handlers.websocket.catch_up import JoinOptions
from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.domain.tracks import LiveState
from tracking.errors import InvalidRequest, NotFound, NotKnownYet
from tracking.live.room import Room
from tracking.store.read.live import live_state
from tracking.wire.protocol import MAX_SEQ, SUBPROTOCOL

# A client may ask for a position every ten minutes at the least.
MAX_INTERVAL_MS: Final = 600_000
WEBSOCKET_VERSION: Final = "13"


class Admission(NamedTuple):
    """Who was let in. Whoever holds it joins the room or withdraws and releases the slot."""

    principal: Principal
    booking_id: UUID
    options: JoinOptions
    slot: Slot
    room: Room


def check_upgrade(request: HTTPServerRequest) -> None:
    """RFC 6455, section 4.2.1. What cannot be upgraded has no close code, but an HTTP status."""
    headers = request.headers
    connection = [part.strip().lower() for part in headers.get("Connection", "").split(",")]
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        raise InvalidRequest("a WebSocket upgrade is expected here")
    if request.version != "HTTP/1.1":
        raise InvalidRequest("a WebSocket needs HTTP/1.1")
    if headers.get("Sec-WebSocket-Version") != WEBSOCKET_VERSION:
        raise HTTPError(426)
    if not _is_key(headers.get("Sec-WebSocket-Key", "")):
        raise InvalidRequest("Sec-WebSocket-Key is not 16 bytes in base64")
    try:
        urlsplit(headers.get("Origin", ""))
    except ValueError:  # Tornado takes it apart, too, and would answer 500
        raise InvalidRequest("Origin is not an origin") from None


def _is_key(text: str) -> bool:
    """A nonce of 16 bytes."""
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


async def admit(handler: BaseHandler, text: str) -> Admission:
    """Check in the order 429, 401, 400, 503, 404, then enter the room of the booking `text`.

    Raises a TrackingError of the table in `handlers.rejections`; then nothing is held.
    """
    services = handler.services
    address = network_of(handler.client_address)
    services.limits.count_join(address)
    principal = await services.tokens.principal_once_renewed(handler.token())
    booking_id = uuid_of(text, "booking id")
    options = join_options(handler)
    check_subprotocols(handler.subprotocols())
    slot = services.limits.acquire(principal.user_id, address)
    try:
        room = await _enter_allowed(handler, principal, booking_id)
    except NotFound:
        services.limits.release(slot)
        if services.grace.lasts(principal.user_id, booking_id):
            raise NotKnownYet("no such booking yet") from None
        raise
    except BaseException:
        services.limits.release(slot)
        raise
    return Admission(principal, booking_id, options, slot, room)


async def enter(handler: BaseHandler, booking_id: UUID) -> Room:
    """The room; raises NotFound for a booking that nothing is known of."""
    services = handler.services

    async def read(booking_id: UUID) -> LiveState | None:
        return await services.ask(live_state, booking_id)

    room = await services.rooms.enter(booking_id, read)
    if room is None:
        raise NotFound("no such booking")
    return room


async def _enter_allowed(handler: BaseHandler, principal: Principal, booking_id: UUID) -> Room:
    room = await enter(handler, booking_id)
    try:
        check_access(principal, room)
    except NotFound:
        handler.services.rooms.withdraw(room)
        raise
    return room


def check_access(principal: Principal, room: Room) -> None:
    """Raises NotFound. Asked again after the upgrade: the booking may have changed its runner."""
    assert room.state is not None
    access = BookingAccess(room.booking_id, room.state.owner_id, room.state.runner_id)
    if not may_watch(principal, access):
        raise NotFound("no such booking")


def check_subprotocols(offered: list[str]) -> None:
    """Raises InvalidRequest for one that nobody here speaks."""
    for name in offered:
        if name != SUBPROTOCOL and not name.startswith(SUBPROTOCOL_TOKEN):
            raise InvalidRequest("unknown WebSocket subprotocol")


def join_options(handler: BaseHandler) -> JoinOptions:
    """What the query of a `tracking.v1` client asks for; the apps' query has none of it."""
    history = handler.get_query_argument("history", "all")
    if history not in ("all", "none"):
        raise InvalidRequest("history is all or none")
    since = handler.get_query_argument("since_seq", None)
    if since is not None and handler.whole_number("since_seq", 0) > MAX_SEQ:
        raise InvalidRequest("since_seq is out of range")
    interval_ms = handler.whole_number("min_interval_ms", 0)
    if interval_ms > MAX_INTERVAL_MS:
        raise InvalidRequest(f"min_interval_ms is above {MAX_INTERVAL_MS}")
    return JoinOptions(
        epoch=handler.get_query_argument("epoch", None),
        since_seq=None if since is None else int(since),
        history=history == "all",
        min_interval_s=interval_ms / 1000,
    )
