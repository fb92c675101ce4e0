"""tracking.live.audience behind the broadcast: whoever is in a cohort gets everything once."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from unittest.mock import Mock
from uuid import uuid4

import pytest
import sqlalchemy as sa

from handlers.websocket.catch_up import JoinOptions
from tests.viewing import NOW, Joined, StoredTrip, Wire, seqs
from tracking.domain.access import Principal
from tracking.domain.changes import BookingChanges, in_order
from tracking.live import audience
from tracking.live.audience import COHORT, WORTH_A_COHORT, Audience
from tracking.live.room import Room
from tracking.live.send_queue import TICK_S, SendQueue
from tracking.live.subscriber import Subscriber
from tracking.wire.messages import Message, location_update
from tracking.wire.protocol import HEARTBEAT_S

MANY = WORTH_A_COHORT + 4

NewWire = Callable[..., Wire]


@pytest.fixture
def new_wire(io_loop: object) -> Iterator[NewWire]:
    with ExitStack() as stack:

        def make(*, small: bool = False) -> Wire:
            return stack.enter_context(closing(Wire(small=small)))

        yield make


@pytest.fixture
def trip(engine: sa.Engine) -> StoredTrip:
    trip = StoredTrip(engine)
    trip.add(1)
    return trip


class Show:
    """A trip that is stored and broadcast, and those who watch it."""

    def __init__(self, trip: StoredTrip) -> None:
        self.trip, self.stage = trip, trip.stage()
        self.seats: list[Joined] = []
        self.late = 0

    async def join(self, wire: Wire, **options: float) -> Joined:
        joined = await Joined.join(self.stage, wire, JoinOptions(**options))  # type: ignore[arg-type]
        self.seats.append(joined)
        await joined.settled()
        return joined

    async def move(self) -> None:
        await self.stage.broadcast.publish(self.next())

    def next(self) -> list[BookingChanges]:
        """One more position in the table."""
        self.trip.count += 1
        return self.trip.store(self.trip.count - 1).bookings

    def next_late(self) -> list[BookingChanges]:
        """One more between the first two seconds of the trip."""
        self.late += 1
        return self.trip.store(self.late / 1000).bookings

    def leave(self, seat: Joined) -> None:
        self.seats.remove(seat)
        seat.viewer.leave()

    @property
    def audience(self) -> Audience:
        assert self.stage.room is not None
        return self.stage.room.audience


async def crowd(trip: StoredTrip, new_wire: NewWire, count: int = MANY) -> Show:
    """All in sync: the second position goes to the cohort."""
    show = Show(trip)
    for _ in range(count):
        await show.join(new_wire())
    await show.move()
    assert show.audience.sizes() == ([count], 0)
    return show


@pytest.mark.gen_test
async def test_who_is_in_sync_gets_each_position_once(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    for _ in range(5):
        await show.move()
    for seat in show.seats:
        assert list(seqs(await seat.wire.messages())) == [*range(1, 8)]


@pytest.mark.gen_test
async def test_a_few_are_served_one_by_one(trip: StoredTrip, new_wire: NewWire) -> None:
    show = Show(trip)
    for _ in range(WORTH_A_COHORT - 1):
        await show.join(new_wire())
    await show.move()
    assert show.audience.sizes() == ([], WORTH_A_COHORT - 1)


@pytest.mark.gen_test
async def test_who_wants_less_is_always_single(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    seat = await show.join(new_wire(), min_interval_s=100)
    for _ in range(3):
        await show.move()
    assert show.audience.sizes() == ([MANY], 1)
    assert list(seqs(await seat.wire.messages())) == [1, 2, 3]


@pytest.mark.gen_test
async def test_who_asks_for_what_was_gets_that_first(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    await show.move()
    seat = show.seats[3]
    assert list(seqs(await seat.wire.messages())) == [1, 2, 3]
    show.stage.gate.clear()
    seat.say(type="catch_up", since_seq=1)
    await asyncio.sleep(0)
    await show.move()
    assert show.audience.sizes() == ([MANY - 1], 1)
    show.stage.gate.set()
    await seat.settled()
    await show.move()
    assert list(seqs(await seat.wire.messages())) == [2, 3, 4, 5]
    assert show.audience.sizes() == ([MANY], 0)


@pytest.mark.gen_test
async def test_a_socket_that_is_full_is_single_until_it_is_free(
    trip: StoredTrip, new_wire: NewWire
) -> None:
    show = await crowd(trip, new_wire)
    slow = await show.join(new_wire(small=True))
    await show.move()
    assert show.audience.sizes() == ([MANY + 1], 0)
    while not slow.subscriber.send_queue.is_busy:  # until a frame goes half
        await show.move()
    assert show.audience.sizes() == ([MANY], 1)
    count = trip.count
    assert list(seqs(await slow.wire.messages())) == [*range(1, count + 1)]
    await show.move()
    await show.move()
    assert list(seqs(await slow.wire.messages())) == [count + 1, count + 2]
    assert show.audience.sizes() == ([MANY + 1], 0)


@pytest.mark.gen_test
async def test_whom_tornado_answers_is_single(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    show.seats[0].subscriber.send_queue.share()
    await show.move()
    assert show.audience.sizes() == ([MANY - 1], 1)
    assert list(seqs(await show.seats[0].wire.messages())) == [1, 2, 3]


@pytest.mark.gen_test
async def test_a_descriptor_that_somebody_else_got_gets_nothing(
    trip: StoredTrip, new_wire: NewWire
) -> None:
    show = await crowd(trip, new_wire)
    gone = show.seats[0]
    descriptor = gone.wire.stream.socket.fileno()
    gone.wire.stream.close()  # as Tornado does when the peer is gone; the viewer is told later
    stranger = new_wire()
    assert descriptor in (stranger.stream.socket.fileno(), stranger.peer.fileno())
    await show.move()
    assert await stranger.frames() == []
    assert show.audience.sizes() == ([MANY - 1], 1)
    for seat in show.seats[1:]:
        assert list(seqs(await seat.wire.messages())) == [1, 2, 3]


@pytest.mark.gen_test
async def test_everybody_may_leave(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    for seat in list(show.seats):
        show.leave(seat)
    assert show.audience.sizes() == ([], 0)
    assert (len(show.stage.rooms), show.stage.rooms.subscribers) == (0, 0)


@pytest.mark.gen_test
async def test_who_is_in_sync_is_never_without_a_message_for_longer_than_promised(
    trip: StoredTrip, new_wire: NewWire
) -> None:
    show = await crowd(trip, new_wire)
    seat = show.seats[0]
    assert seat.subscriber.cohort is not None
    sent_at = seat.subscriber.cohort.sent_at
    seat.viewer.tick(sent_at)
    await seat.wire.messages()
    # The next look is a second later: too late.
    seat.viewer.tick(sent_at + HEARTBEAT_S - TICK_S / 2)
    assert [each["type"] for each in await seat.wire.messages()] == ["heartbeat"]


@pytest.mark.gen_test
async def test_who_left_while_others_are_served_waits_for_nothing(
    trip: StoredTrip, new_wire: NewWire
) -> None:
    show = await crowd(trip, new_wire)
    seat = await show.join(new_wire(), min_interval_s=100)
    await show.move()
    show.leave(seat)
    assert seat.subscriber.accept(location_update(show.stage.waypoint(9))) is None
    assert seat.subscriber._timer is None


@pytest.mark.gen_test
async def test_an_old_position_is_not_sent_again(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    await show.stage.broadcast.publish(in_order([], [show.stage.waypoint(2)]))
    for seat in show.seats:
        assert list(seqs(await seat.wire.messages())) == [1, 2]


@pytest.mark.gen_test
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_has_seen_all_of_the_table(
    trip: StoredTrip, new_wire: NewWire, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Also while the broadcast lets others run: here before each cohort, and cohorts are small."""
    monkeypatch.setattr(audience, "MAX_HOLD_S", -1.0)
    monkeypatch.setattr(audience, "COHORT", 5)
    chance = random.Random(seed)
    show = Show(trip)
    for _ in range(MANY):
        await show.join(new_wire())
    asked: set[Joined] = set()
    most = 0
    publishing = asyncio.create_task(show.stage.broadcast.publish(show.next()))
    for _ in range(200):
        seat = chance.choice(show.seats)
        match chance.choice(
            ["move"] * 6 + ["late", "ask", "join", "leave", "ping", "shared", "on"]
        ):
            case "move" | "late" as kind:
                await publishing
                stored = show.next() if kind == "move" else show.next_late()
                publishing = asyncio.create_task(show.stage.broadcast.publish(stored))
            case "on":
                await asyncio.sleep(0)
            case "ask":
                asked.add(seat)
                seat.say(type="catch_up", since_seq=chance.randrange(trip.count))
            case "join":
                await show.join(new_wire())
            case "leave" if len(show.seats) > MANY:
                show.leave(seat)
            case "ping":
                seat.subscriber.send_queue.ping()
            case "shared":
                seat.subscriber.send_queue.share()
        most = max([most, *show.audience.sizes()[0]])
    await publishing
    assert most == 5
    table = [*range(1, trip.count + show.late + 1)]
    for seat in show.seats:
        await seat.settled()
        seen = list(seqs(await seat.wire.messages(until=b'"seq":%d,' % table[-1])))
        assert sorted(set(seen)) == table
        assert seat in asked or seen == table


@pytest.mark.gen_test
async def test_a_cohort_is_no_larger_than_one_call(new_wire: NewWire) -> None:
    room, wire = Room(uuid4()), new_wire()
    principal = Principal(uuid4(), "admin", NOW)
    queues = [SendQueue(wire.stream, wire.metrics) for _ in range(COHORT + 1)]
    crowd = [Subscriber(room, Mock(), principal, each) for each in queues]
    message = Message(7, b"", 7)
    for each in crowd:
        each.accept(message)
        room.audience.add(each)
    room.audience.gather(crowd, 7)
    assert room.audience.sizes() == ([COHORT, 1], 0)
    assert room.audience.everybody() == crowd
