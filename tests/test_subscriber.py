"""tracking.live.subscriber: each position once, and an end that happens once."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.viewing import NOW, Seat, Wire, active_state, entered, stored_waypoint
from tracking.domain.access import Principal
from tracking.live.recipient import State
from tracking.live.rooms import Rooms
from tracking.live.subscriber import Subscriber
from tracking.wire import close_codes
from tracking.wire.messages import location_update


@pytest.fixture
def wire(io_loop: object) -> Iterator[Wire]:
    made = Wire(small=False)
    yield made
    made.close()


async def joined(wire: Wire, rooms: Rooms) -> tuple[Subscriber, Seat]:
    room = await entered(rooms, active_state())
    seat = Seat(None)  # type: ignore[arg-type]
    subscriber = Subscriber(room, seat, Principal(uuid4(), "admin", NOW), wire.send_queue)
    rooms.join(subscriber)
    return subscriber, seat


@pytest.mark.gen_test
async def test_a_position_goes_out_if_it_is_newer_and_the_subscriber_is_live(wire: Wire) -> None:
    subscriber, _ = await joined(wire, Rooms())
    positions = [location_update(stored_waypoint(uuid4(), seq)) for seq in range(4)]
    descriptor = wire.stream.socket.fileno()
    found = [subscriber.accept(positions[seq]) for seq in (2, 2, 1, 3)]
    assert found == [descriptor, None, None, descriptor]
    subscriber.state = State.CATCHING_UP
    assert subscriber.accept(location_update(stored_waypoint(uuid4(), 9))) is None


@pytest.mark.gen_test
async def test_it_leaves_its_room_before_it_is_closed_and_is_closed_once(wire: Wire) -> None:
    rooms = Rooms()
    subscriber, seat = await joined(wire, rooms)
    there: list[int] = []
    close = seat.send_close

    def send_close(code: close_codes.CloseCode) -> None:
        there.append(rooms.subscribers)
        close(code)

    seat.send_close = send_close  # type: ignore[method-assign]
    subscriber.end(close_codes.TOKEN_EXPIRED)
    subscriber.end(close_codes.TOO_SLOW)
    subscriber.leave()
    assert (seat.code(), there, len(rooms)) == (4401, [0], 0)


@pytest.mark.gen_test
async def test_to_a_peer_that_has_gone_no_close_frame_is_sent(wire: Wire) -> None:
    subscriber, seat = await joined(wire, Rooms())
    subscriber.leave()
    subscriber.end(close_codes.GOING_AWAY)
    assert (seat.closed, subscriber.send_queue.is_ended) == ([], True)


@pytest.mark.gen_test
async def test_an_error_while_it_is_being_closed_drops_the_connection(wire: Wire) -> None:
    subscriber, _ = await joined(wire, Rooms())
    subscriber.leave()
    subscriber.fail(ZeroDivisionError("a bug"))
    assert wire.stream.closed()
