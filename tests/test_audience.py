"""tracking.live.audience behind the broadcast: who is asked nothing still gets everything once."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from handlers.websocket.protocol_viewer import JoinOptions
from handlers.websocket.send_queue import TICK_S
from tests.viewing import Joined, StoredTrip, Wire, seqs
from tracking.domain.changes import BookingChanges, in_order
from tracking.live import audience
from tracking.live import broadcast as relay
from tracking.live.audience import COHORT, WORTH_A_COHORT, Audience, Cohort
from tracking.wire.messages import location_update
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


def sizes(of: Audience) -> tuple[list[int], int]:
    """Of the cohorts, and how many are asked each time."""
    return [len(each) for each in of.cohorts()], len(of.singles())


class Show:
    """A trip that is stored and relayed, and those who watch it."""

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
        await self.stage.relay.publish(self.next())

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
        seat.viewer.end()
        self.stage.rooms.leave(seat.viewer.room, seat.viewer)

    @property
    def audience(self) -> Audience:
        assert self.stage.room is not None
        return self.stage.room.audience


async def crowd(trip: StoredTrip, new_wire: NewWire, count: int = MANY) -> Show:
    """All level: the second position is sent without a question."""
    show = Show(trip)
    for _ in range(count):
        await show.join(new_wire())
    await show.move()
    assert sizes(show.audience) == ([count], 0)
    return show


@pytest.mark.gen_test
async def test_who_is_level_gets_each_position_once(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    for _ in range(5):
        await show.move()
    for seat in show.seats:
        assert list(seqs(await seat.wire.messages())) == [*range(1, 8)]


@pytest.mark.gen_test
async def test_a_few_are_asked_one_by_one(trip: StoredTrip, new_wire: NewWire) -> None:
    show = Show(trip)
    for _ in range(WORTH_A_COHORT - 1):
        await show.join(new_wire())
    await show.move()
    assert sizes(show.audience) == ([], WORTH_A_COHORT - 1)


@pytest.mark.gen_test
async def test_who_wants_less_is_always_asked(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    seat = await show.join(new_wire(), min_interval_s=100)
    for _ in range(3):
        await show.move()
    assert sizes(show.audience) == ([MANY], 1)
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
    assert sizes(show.audience) == ([MANY - 1], 1)
    show.stage.gate.set()
    await seat.settled()
    await show.move()
    assert list(seqs(await seat.wire.messages())) == [2, 3, 4, 5]
    assert sizes(show.audience) == ([MANY], 0)


@pytest.mark.gen_test
async def test_a_socket_that_is_full_is_asked_until_it_is_free(
    trip: StoredTrip, new_wire: NewWire
) -> None:
    show = await crowd(trip, new_wire)
    slow = await show.join(new_wire(small=True))
    await show.move()
    assert sizes(show.audience) == ([MANY + 1], 0)
    while not slow.viewer.send_queue.is_busy:  # until a frame goes half
        await show.move()
    assert sizes(show.audience) == ([MANY], 1)
    count = trip.count
    assert list(seqs(await slow.wire.messages())) == [*range(1, count + 1)]
    await show.move()
    await show.move()
    assert list(seqs(await slow.wire.messages())) == [count + 1, count + 2]
    assert sizes(show.audience) == ([MANY + 1], 0)


@pytest.mark.gen_test
async def test_whom_tornado_answers_is_asked(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    show.seats[0].viewer.send_queue.share()
    await show.move()
    assert sizes(show.audience) == ([MANY - 1], 1)
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
    assert sizes(show.audience) == ([MANY - 1], 1)
    for seat in show.seats[1:]:
        assert list(seqs(await seat.wire.messages())) == [1, 2, 3]


@pytest.mark.gen_test
async def test_everybody_may_leave(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    for seat in list(show.seats):
        show.leave(seat)
    assert sizes(show.audience) == ([], 0)
    assert (len(show.stage.rooms), show.stage.rooms.subscribers) == (0, 0)


@pytest.mark.gen_test
async def test_who_is_level_is_never_without_a_message_for_longer_than_promised(
    trip: StoredTrip, new_wire: NewWire
) -> None:
    show = await crowd(trip, new_wire)
    seat = show.seats[0]
    assert seat.viewer.cohort is not None
    sent_at = seat.viewer.cohort.sent_at
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
    assert seat.viewer.take(location_update(show.stage.waypoint(9))) is None
    assert seat.viewer._timer is None


@pytest.mark.gen_test
async def test_an_old_position_is_not_sent_again(trip: StoredTrip, new_wire: NewWire) -> None:
    show = await crowd(trip, new_wire)
    await show.stage.relay.publish(in_order([], [show.stage.waypoint(2)]))
    for seat in show.seats:
        assert list(seqs(await seat.wire.messages())) == [1, 2]


@pytest.mark.gen_test
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_has_seen_all_of_the_table(
    trip: StoredTrip, new_wire: NewWire, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Also while the relay lets others run: here before each cohort, and cohorts are small."""
    monkeypatch.setattr(relay, "MAX_HOLD_S", -1.0)
    monkeypatch.setattr(audience, "COHORT", 5)
    chance = random.Random(seed)
    show = Show(trip)
    for _ in range(MANY):
        await show.join(new_wire())
    asked: set[Joined] = set()
    most = 0
    publishing = asyncio.create_task(show.stage.relay.publish(show.next()))
    for _ in range(200):
        seat = chance.choice(show.seats)
        match chance.choice(
            ["move"] * 6 + ["late", "ask", "join", "leave", "ping", "shared", "on"]
        ):
            case "move" | "late" as kind:
                await publishing
                stored = show.next() if kind == "move" else show.next_late()
                publishing = asyncio.create_task(show.stage.relay.publish(stored))
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
                seat.viewer.send_queue.ping()
            case "shared":
                seat.viewer.send_queue.share()
        most = max([most, *sizes(show.audience)[0]])
    await publishing
    assert most == 5
    table = [*range(1, trip.count + show.late + 1)]
    for seat in show.seats:
        await seat.settled()
        seen = list(seqs(await seat.wire.messages(until=b'"seq":%d,' % table[-1])))
        assert sorted(set(seen)) == table
        assert seat in asked or seen == table


def test_a_cohort_is_no_larger_than_one_call() -> None:
    room = Audience()
    with socket.socket() as free:
        crowd = [Level(free) for _ in range(COHORT + 1)]
        for each in crowd:
            room.add(each)
        room.gather(crowd, 7)
    assert sizes(room) == ([COHORT, 1], 0)
    assert room.everybody() == crowd


class Level:
    """Always level; otherwise only there."""

    take = sent = track_changed = freshness_changed = Mock()

    def __init__(self, free: socket.socket) -> None:
        self.cohort: Cohort | None = None
        self.free = free

    def level_socket(self) -> socket.socket:
        return self.free
