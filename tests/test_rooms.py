"""tracking.live.rooms and tracking.wire.messages: who watches, and what they get."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest

from tracking.domain.freshness import Freshness
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.errors import DatabaseUnavailable
from tracking.live.audience import Cohort
from tracking.live.rooms import LONGEST_S, SHARED_S, Room, Rooms
from tracking.wire.messages import Message, location_update, rfc3339, text_frame, whole_seconds

AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


class Viewer:
    """Takes everything."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.told: list[Freshness] = []
        self.cohort: Cohort | None = None

    def take(self, message: Message) -> int | None:
        self.messages.append(message)
        return None

    def sent(self, message: Message, count: int) -> None:
        """Never told: nothing is sent."""

    def level_socket(self) -> None:
        """It has none."""

    def track_changed(self, change: TrackChange) -> None:
        """Nothing to do."""

    def freshness_changed(self, freshness: Freshness) -> None:
        self.told.append(freshness)


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


def active(booking_id: UUID, head_seq: int = 0) -> LiveState:
    return LiveState(booking_id, uuid4(), uuid4(), uuid4(), "epoch", "active", "to_pickup", AT,
                     head_seq)  # fmt: skip


def waypoint(booking_id: UUID, seq: int, *, late: bool = False) -> StoredWaypoint:
    at = AT + timedelta(seconds=seq)
    return StoredWaypoint(booking_id, uuid4(), seq, uuid4(), 106.8, -6.2, None, None, at, at, late)


async def entered(rooms: Rooms, state: LiveState) -> Room:
    database = Database(state)
    database.ready.set()
    room = await rooms.enter(state.booking_id, database.read)
    assert room is not None
    return room


@pytest.mark.gen_test
async def test_memory_follows_the_viewers() -> None:
    rooms, viewers = Rooms(), [Viewer(), Viewer()]
    state = active(uuid4())
    for viewer in viewers:
        room = await entered(rooms, state)
        rooms.join(room, viewer)
    assert (len(rooms), rooms.subscribers) == (1, 2)
    for viewer in viewers * 2:
        rooms.leave(room, viewer)
    assert (len(rooms), rooms.subscribers) == (0, 0)
    assert rooms.room(state.booking_id) is None


@pytest.mark.gen_test
async def test_everybody_may_leave_while_they_are_counted() -> None:
    rooms, places = Rooms(), {}
    for _ in range(10):
        viewer = Viewer()
        places[viewer] = await entered(rooms, active(uuid4()))
        rooms.join(places[viewer], viewer)
    left = 0
    for subscriber in rooms.everybody():
        assert isinstance(subscriber, Viewer)
        rooms.leave(places[subscriber], subscriber)
        left += 1
    assert left == 10
    assert len(rooms) == 0


@pytest.mark.gen_test
async def test_a_crowd_that_enters_at_once_asks_the_database_once() -> None:
    rooms, database = Rooms(), Database(active(uuid4(), 5))
    assert database.state is not None
    booking_id = database.state.booking_id
    crowd = [asyncio.ensure_future(rooms.enter(booking_id, database.read)) for _ in range(100)]
    await asyncio.sleep(0)
    room = rooms.room(booking_id)
    assert room is not None
    # Published while the state is read: the second one is in what is read already, or is not.
    room.moved(waypoint(booking_id, 5))
    room.moved(waypoint(booking_id, 6))
    database.ready.set()
    assert {await each for each in crowd} == {room}
    await rooms.enter(booking_id, database.read)
    assert database.asked == 1
    assert room.state is not None
    assert (room.state.head_seq, room.state.last and room.state.last.seq) == (6, 6)
    for _ in range(101):
        rooms.quit(room)
    assert len(rooms) == 0


@pytest.mark.gen_test
async def test_an_answer_is_kept_while_a_crowd_wants_it_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, asked, looks = Room(uuid4()), Counter[str](), list[Callable[[], None]]()

    async def want(question: str) -> None:
        async def ask() -> None:
            asked[question] += 1

        await room.shared((question,), ask)

    def call_later(_: float, look: Callable[..., None], *arguments: object) -> None:
        looks.append(partial(look, *arguments))

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    for _ in range(round(LONGEST_S / SHARED_S)):
        await want("often")
        await want("often")
        assert (asked["often"], len(looks)) == (1, 1)
        looks.pop()()
    assert looks == []
    await want("often")
    await want("once")
    assert asked == {"often": 2, "once": 1}
    for look in list(looks):
        look()
    await want("once")
    assert asked["once"] == 2


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
async def test_after_a_change_the_marker_is_read_anew() -> None:
    """A delivery that was told of late takes the newest waypoints out of the route."""
    rooms, state = Rooms(), active(uuid4(), 3)
    room = await entered(rooms, state)
    room.moved(waypoint(state.booking_id, 4))
    change = TrackChange(
        state.booking_id, uuid4(), "active", "to_pickup", None, "completed", "done", uuid4(), None,
        "epoch", AT, AT,
    )  # fmt: skip
    room.changed(change)
    read = active(state.booking_id, 4)
    read.status, read.last = "completed", waypoint(state.booking_id, 2)
    assert await entered(rooms, read) is room
    assert room.state is read
    room.moved(waypoint(state.booking_id, 5, late=True))
    assert (read.head_seq, read.last.seq) == (5, 2)


@pytest.mark.gen_test
async def test_who_joins_gets_the_newest_position_encoded_once_for_all() -> None:
    rooms, state = Rooms(), active(uuid4())
    room = await entered(rooms, state)
    assert room.position() is None
    for seq in (1, 2):
        room.moved(waypoint(state.booking_id, seq))
        position = room.position()
        assert position is not None
        assert position.seq == seq
        assert position is room.position()
        assert state.last is not None
        assert position.frame == location_update(state.last).frame


@pytest.mark.gen_test
async def test_a_change_while_a_room_is_read_anew_is_not_forgotten() -> None:
    """What the database said may be older than what was published meanwhile."""
    rooms, state = Rooms(), active(uuid4(), 3)
    room = await entered(rooms, state)
    rooms.join(room, Viewer())
    room.changed(change_to(state, "active"))
    database = Database(active(state.booking_id, 3))
    entering = asyncio.ensure_future(rooms.enter(state.booking_id, database.read))
    await asyncio.sleep(0)
    room.changed(change_to(state, "completed"))
    database.ready.set()
    assert await entering is room
    assert room.state is database.state
    assert (database.asked, room.state.status if room.state else None) == (1, "completed")
    assert room.is_outdated


@pytest.mark.gen_test
async def test_a_reading_that_fails_is_tried_again_by_the_next() -> None:
    rooms, database = Rooms(), Database(active(uuid4()))
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
    rooms, state = Rooms(), active(uuid4(), 3)
    room = await entered(rooms, state)
    rooms.join(room, Viewer())
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
    database = Database(active(state.booking_id, 3))
    assert database.state is not None
    database.state.status = "completed"
    database.ready.set()
    assert await rooms.enter(state.booking_id, database.read) is room
    assert room.state is database.state
    assert room.state.status == "completed"


def change_to(state: LiveState, status: str) -> TrackChange:
    return TrackChange(
        state.booking_id, uuid4(), "active", "to_pickup", uuid4(), status, "done", uuid4(), None,
        "epoch", AT, AT,
    )  # fmt: skip


@pytest.mark.gen_test
async def test_silence_is_told_with_whose_it_is_and_so_is_its_end() -> None:
    rooms, viewer, state = Rooms(), Viewer(), active(uuid4())
    room = await entered(rooms, state)
    rooms.join(room, viewer)
    for seconds, delay_s in ((0, 0), (29, 0), (31, 0), (32, 20), (100, 0), (121, 0), (122, 0)):
        room.age(AT + timedelta(seconds=seconds), delay_s)
    room.moved(waypoint(state.booking_id, 123))
    room.age(AT + timedelta(seconds=124), 0)
    assert [(each.state, each.reason) for each in viewer.told] == [
        ("stale", "no_points"), ("stale", "pipeline_delayed"), ("stale", "no_points"),
        ("lost", "no_points"), ("live", None),
    ]  # fmt: skip
    assert viewer.told[-1].last_received_at == AT + timedelta(seconds=123)


def test_a_frame_is_what_rfc_6455_asks_for() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("810548656c6c6f")  # section 5.7
    assert text_frame(b"x" * 256)[:4] == bytes.fromhex("817e0100")
    assert text_frame(b"x" * 65536)[:10] == bytes.fromhex("817f0000000000010000")


def test_the_apps_find_no_null_and_no_fraction_of_a_second() -> None:
    stored = StoredWaypoint(uuid4(), uuid4(), 7, uuid4(), 106.81234567, -6.2, None, None, AT, AT,
                            late=False)  # fmt: skip
    message = location_update(stored)
    text = json.loads(message.frame[4:])
    assert message.seq == text["seq"] == 7
    assert (text["speed_kmh"], text["heading_degrees"]) == (0.0, 0.0)
    assert text["timestamp"] == "2026-02-06T10:30:00Z"
    assert text["recorded_at"] == "2026-02-06T10:30:00.999999Z"
    assert text["longitude"] == 106.812346
    assert (whole_seconds(AT), rfc3339(AT)) == (text["timestamp"], text["recorded_at"])
