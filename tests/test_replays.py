"""tracking.live.replays: who is shown a trip, and how many may be."""

from uuid import uuid4

import pytest

from tests.viewing import NOW, Seat, Wire
from tracking.domain.access import Principal
from tracking.errors import Overloaded, TooManyConnections
from tracking.live.replays import REPLAYS, REPLAYS_PER_USER, ReplayRecipient, Replays
from tracking.wire import close_codes


def test_a_user_has_four_and_who_leaves_makes_room() -> None:
    replays, user = Replays(), uuid4()
    for _ in range(REPLAYS_PER_USER):
        replays.reserve(user)
    with pytest.raises(TooManyConnections):
        replays.reserve(user)
    replays.reserve(uuid4())
    replays.release(user)
    replays.reserve(user)


def test_a_process_has_an_end_of_them() -> None:
    replays = Replays()
    users = [uuid4() for _ in range(REPLAYS)]
    for user in users:
        replays.reserve(user)
    with pytest.raises(Overloaded):
        replays.reserve(uuid4())
    for user in users:
        replays.release(user)
    assert not replays._users


@pytest.mark.gen_test
async def test_who_joins_is_counted_until_it_ends() -> None:
    replays, wire, user = Replays(), Wire(small=False), uuid4()
    running = wire.metrics.replays.running
    seat, begun = Seat(None), []  # type: ignore[arg-type]
    replays.reserve(user)
    principal = Principal(user, "owner", NOW)
    recipient = ReplayRecipient(
        replays, seat, principal, wire.send_queue, lambda: begun.append(True)
    )
    replays.join(recipient)
    recipient.begin()
    assert begun == [True]
    assert [*replays.everybody()] == [recipient]
    assert running._value.get() == len(replays) == 1
    recipient.end(close_codes.NOT_FOUND)
    recipient.leave()
    assert seat.code() == 4503
    assert running._value.get() == len(replays) == 0
    assert not replays._users
    wire.close()
