"""May this connection be shown a trip again? All that is checked before the upgrade."""

from typing import NamedTuple
from uuid import UUID

from handlers.base import BaseHandler, uuid_of
from handlers.client_address import network_of
from handlers.limits import Slot
from handlers.query import number_of, time_of
from handlers.websocket.admission import check_subprotocols
from tracking.domain.access import BookingAccess, Principal, may_watch
from tracking.domain.playback import LEAST_SPEED, MOST_SPEED, ReplayOptions
from tracking.domain.tracks import LiveState
from tracking.errors import InvalidRequest, NotFound
from tracking.store.read.live import live_state
from tracking.store.read.replayed import Replayed, replay_access
from tracking.wire.protocol import SUBPROTOCOL


class ReplayAdmission(NamedTuple):
    """Who was let in. Whoever holds it joins, or releases both the slot and the replay."""

    principal: Principal
    slot: Slot
    state: LiveState
    part: Replayed
    options: ReplayOptions


def is_replay(handler: BaseHandler) -> bool:
    return handler.get_query_argument("replay", None) is not None


async def admit_replay(handler: BaseHandler, text: str) -> ReplayAdmission:
    """Check in the order of `admission.admit`; raises a TrackingError, then nothing is held."""
    services, address = handler.services, network_of(handler.client_address)
    services.limits.count_join(address)
    principal = await services.tokens.principal_once_renewed(handler.token())
    booking_id = uuid_of(text, "booking id")
    options = replay_options(handler)
    slot = services.limits.acquire(principal.user_id, address)
    try:
        services.replays.reserve(principal.user_id)
    except BaseException:
        services.limits.release(slot)
        raise
    try:
        state, part = await _allowed(handler, principal, booking_id, options)
    except BaseException:
        services.replays.release(principal.user_id)
        services.limits.release(slot)
        raise
    return ReplayAdmission(principal, slot, state, part, options)


async def _allowed(
    handler: BaseHandler, principal: Principal, booking_id: UUID, options: ReplayOptions
) -> tuple[LiveState, Replayed]:
    state: LiveState | None = await handler.services.ask(live_state, booking_id)
    if state is None or state.track_id is None or state.epoch is None:
        raise NotFound("no such booking")
    if not may_watch(principal, BookingAccess(booking_id, state.owner_id, state.runner_id)):
        raise NotFound("no such booking")
    part = Replayed(
        booking_id, state.track_id, state.epoch, state.head_seq, options.order, options.since,
        options.until,
    )  # fmt: skip
    await handler.services.ask(replay_access, part)  # raises RouteExpired
    return state, part


def replay_options(handler: BaseHandler) -> ReplayOptions:
    """What the query asks for; raises InvalidRequest."""
    check_subprotocols(handler.subprotocols())
    if SUBPROTOCOL not in handler.subprotocols():
        raise InvalidRequest(f"a replay speaks the WebSocket subprotocol {SUBPROTOCOL}")
    speed = number_of(handler, "replay", LEAST_SPEED, MOST_SPEED)
    assert speed is not None
    order = handler.get_query_argument("order", "recorded")
    if order not in ("recorded", "arrival"):
        raise InvalidRequest("order is recorded or arrival")
    since, until = time_of(handler, "from"), time_of(handler, "to")
    return ReplayOptions(speed, "arrival" if order == "arrival" else "recorded", since, until)
