"""What a room's viewers are told beside positions and statuses. IOLoop thread only."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from tracking.domain.eta import Eta, NoEta
from tracking.domain.legs import Leg
from tracking.live.views import View
from tracking.wire.arrival_message import ArrivalMessage
from tracking.wire.eta_message import EtaMessage, eta_part, eta_reason
from tracking.wire.protocol import frame_of

if TYPE_CHECKING:
    from tracking.live.room import Room


def tell_all(room: "Room", message_for: Callable[[View], Struct]) -> None:
    """Who speaks `tracking.v1`, but not who waits for the pickup."""
    for view, audience in room.audiences():
        if view.is_waiting(room.state) or not len(audience):
            continue
        frame = frame_of(message_for(view))
        for subscriber in audience.everybody():
            try:
                subscriber.tell(frame)
            except Exception as error:
                subscriber.fail(error)


def tell_legs(room: "Room", legs: tuple[Leg, ...]) -> None:
    """What is said of arrivals is something else."""
    state = room.state
    assert state is not None
    state.legs = legs
    tell_all(room, lambda view: ArrivalMessage(room.booking_id, view.arrivals(state)))


def tell_eta(room: "Room", eta: Eta | NoEta) -> None:
    """There is another one, or none, and why."""
    room.eta = eta
    message = EtaMessage(room.booking_id, eta_part(eta), eta_reason(eta))
    tell_all(room, lambda _: message)
