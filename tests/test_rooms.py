"""tracking.live.rooms: who watches which booking, and when the database is asked."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from tests.viewing import Told, active_state, entered, stored_waypoint
from tracking.domain.changes import BookingChanges, TrackMove
from tracking.domain.tracks import LiveState, TrackChange
from tracking.errors import DatabaseUnavailable
from tracking.live.rooms import Rooms

AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


class Database:
    """Counts how often it is asked; answers when it is let."""

    def __init__(self, state: LiveState | None) -> None:
        self.state = state
        self.asked = 0
        self.ready = asyncio.Event()

    async def read(self, _: UUID) -> LiveState | None:
        self.asked += 1
        await self.ready.wait()
        return self.state


@pytest.mark.gen_test
async def test_memory_follows_the_viewers() -> None:
    rooms, state, subscribers = Rooms(), active_state(), []
    for _ in range(2):
        subscribers.append(Told(await entered(rooms, state)))
        rooms.join(subscribers[-1])
    assert (len(rooms), rooms.subscribers) == (1, 2)
    for subscriber in subscribers * 2:
        subscriber.leave()
    assert (len(rooms), rooms.subscribers) == (0, 0)
    assert rooms.room(state.booking_id) is None


@pytest.mark.gen_test
async def test_everybody_may_leave_while_they_are_counted() -> None:
    rooms = Rooms()
    for _ in range(10):
        rooms.join(Told(await entered(rooms, active_state())))
    left = 0
    for subscriber in rooms.everybody():
        subscriber.leave()
        left += 1
    assert left == 10
    assert len(rooms) == 0


@pytest.mark.gen_test
async def test_a_crowd_that_enters_at_once_asks_the_database_once() -> None:
    rooms, database = Rooms(), Database(active_state(5))
    assert database.state is not None
    database.state.version = 5
    assert database.state is not None
    booking_id = database.state.booking_id
    crowd = [asyncio.ensure_future(rooms.enter(booking_id, database.read)) for _ in range(100)]
    await asyncio.sleep(0)
    room = rooms.room(booking_id)
    assert room is not None
    # Published while the state is read: the first one is in what is read already.
    for seq in (5, 6):
        move = TrackMove("epoch", seq - 1, seq, 0)
        assert room.take(BookingChanges(booking_id, [stored_waypoint(booking_id, seq)], move)) == []
    database.ready.set()
    assert {await each for each in crowd} == {room}
    await rooms.enter(booking_id, database.read)
    assert database.asked == 1
    assert room.state is not None
    assert (room.state.head_seq, room.state.last and room.state.last.seq) == (6, 6)
    for _ in range(101):
        rooms.withdraw(room)
    assert len(rooms) == 0


@pytest.mark.gen_test
async def test_a_booking_that_is_not_there_leaves_no_room() -> None:
    rooms, database = Rooms(), Database(None)
    database.ready.set()
    assert await rooms.enter(uuid4(), database.read) is None

    async def broken(_: UUID) -> LiveState | None:
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        await rooms.enter(uuid4(), broken)
    assert len(rooms) == 0


@pytest.mark.gen_test
async def test_a_change_while_a_room_is_read_anew_is_not_forgotten() -> None:
    """What the database said may be older than what was published meanwhile."""
    rooms, state = Rooms(), active_state(3)
    room = await entered(rooms, state)
    rooms.join(Told(room))
    room.changed(change_to(state, "active"))
    database = Database(active_state(3, state.booking_id))
    entering = asyncio.ensure_future(rooms.enter(state.booking_id, database.read))
    await asyncio.sleep(0)
    room.changed(change_to(state, "completed"))
    database.ready.set()
    assert await entering is room
    assert (database.asked, room.state.status if room.state else None) == (1, "completed")
    assert room.is_outdated


@pytest.mark.gen_test
async def test_a_reading_that_fails_is_tried_again_by_the_next() -> None:
    rooms, database = Rooms(), Database(active_state())
    assert database.state is not None

    async def fail(_: UUID) -> LiveState | None:
        raise DatabaseUnavailable("gone")

    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await rooms.enter(database.state.booking_id, fail)
    assert len(rooms) == 0
    database.ready.set()
    assert await rooms.enter(database.state.booking_id, database.read) is not None


@pytest.mark.gen_test
async def test_a_change_during_a_reading_that_failed_is_not_repeated_later() -> None:
    """By then it is older than what the database says."""
    rooms, state = Rooms(), active_state(3)
    room = await entered(rooms, state)
    rooms.join(Told(room))
    room.changed(change_to(state, "active"))
    ready = asyncio.Event()

    async def fail(_: UUID) -> LiveState | None:
        await ready.wait()
        raise DatabaseUnavailable("gone")

    entering = asyncio.ensure_future(rooms.enter(state.booking_id, fail))
    await asyncio.sleep(0)
    room.changed(change_to(state, "active"))
    ready.set()
    with pytest.raises(DatabaseUnavailable):
        await entering
    room.changed(change_to(state, "completed"))
    database = Database(active_state(3, state.booking_id))
    assert database.state is not None
    database.state.status = "completed"
    database.ready.set()
    assert await rooms.enter(state.booking_id, database.read) is room
    assert room.state is not None
    assert room.state.status == "completed"


def change_to(state: LiveState, status: str) -> TrackChange:
    return TrackChange(
        state.booking_id, uuid4(), "active", "to_pickup", uuid4(), status, "done", uuid4(), None,
        "epoch", AT, AT,
    )  # fmt: skip
