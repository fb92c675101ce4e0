"""tracking.live.healing: what a room has missed its viewers get from the table, once, in order."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from tests.viewing import NOW, START, Joined, Seat, StoredTrip, Wire, first_of, seqs
from tracking.domain.changes import BookingChanges
from tracking.domain.events import BookingEvent
from tracking.domain.tracks import ActiveTrip, LiveState
from tracking.errors import DatabaseUnavailable
from tracking.live import healing as healing_module
from tracking.live.fleet import Fleet
from tracking.live.healing import Healing
from tracking.live.room import Room
from tracking.live.subscriber import Subscriber
from tracking.store.ingest.batch import store_batch
from tracking.store.read.active_trips import active_trips
from tracking.store.read.live import live_state, recent_moves, track_versions


@pytest.fixture
def wires(io_loop: object) -> Iterator[list[Wire]]:
    made = [Wire(small=False) for _ in range(10)]
    yield made
    for each in made:
        each.close()


class Healed:
    """A trip in the database, its room, and what heals it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.trip = StoredTrip(engine)
        self.trip.add(2)
        self.stage = self.trip.stage()
        self.reads = 0
        self.fails = 0  # so often the database is away
        services = self.stage.services
        self.healing = Healing(
            self.stage.rooms, services.fleet, self.stage.broadcast, self.read_state,
            self.read_versions, self.stage.metrics,
        )  # fmt: skip

    async def read_state(self, booking_id: UUID) -> LiveState | None:
        self.reads += 1
        if self.fails:
            self.fails -= 1
            raise DatabaseUnavailable("away")
        return live_state(self.engine, booking_id)

    async def read_versions(self, ids: Collection[UUID] | None) -> dict[UUID, int]:
        return track_versions(self.engine, ids)

    def stored(self, *seconds: float) -> list[BookingChanges]:
        """What the transaction tells."""
        return self.trip.store(*seconds).bookings

    async def publish(self, bookings: list[BookingChanges]) -> None:
        await self.stage.broadcast.publish(bookings)

    async def join(self, wire: Wire) -> Joined:
        joined = await Joined.join(self.stage, wire)
        await joined.settled()
        return joined

    def metric(self, name: str) -> float:
        value = self.stage.metrics.registry.get_sample_value(f"tracking_{name}_total")
        return value or 0.0


@pytest.fixture
def healed(io_loop: object, engine: sa.Engine) -> Healed:
    return Healed(engine)


async def told(joined: Joined, through: int) -> list[int]:
    """The seqs that came, up to this one."""
    found: list[int] = []
    while not found or found[-1] < through:
        found += seqs(await joined.wire.messages(until=b'"seq":%d,' % through))
    return found


async def until(true: Callable[[], bool]) -> None:
    """Fails with the test's own limit."""
    for _ in range(4_000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("still not")


async def closed(joined: Joined) -> None:
    await until(lambda: joined.seat.code() is not None)


@pytest.mark.gen_test
async def test_a_lost_change_reaches_everybody_once_and_in_order(
    healed: Healed, wires: list[Wire]
) -> None:
    everybody = [await healed.join(wire) for wire in wires]
    await healed.publish(healed.stored(10))
    healed.stored(11, 12)  # nobody is told
    last = healed.stored(13)
    await healed.publish(last)
    for joined in everybody:
        assert await told(joined, 6) == [1, 2, 3, 4, 5, 6]
    assert (healed.metric("gaps"), healed.metric("rooms_healed"), healed.reads) == (1, 1, 1)
    await healed.publish(healed.stored(14))
    for joined in everybody:
        assert await told(joined, 7) == [7]


@pytest.mark.gen_test
async def test_two_processes_that_overtake_each_other_need_no_healing(
    healed: Healed, wires: list[Wire]
) -> None:
    joined = await healed.join(wires[0])
    first, second = healed.stored(10), healed.stored(11)
    await healed.publish(second)
    await healed.publish(first)
    await healed.publish(first)
    assert await told(joined, 4) == [1, 2, 3, 4]
    assert await asyncio.sleep(2 * healing_module.GAP_S, healed.metric("rooms_healed")) == 0


@pytest.mark.gen_test
async def test_the_end_of_a_trip_that_was_missed_comes_behind_its_last_waypoint(
    healed: Healed, wires: list[Wire]
) -> None:
    joined = await healed.join(wires[0])
    trip = healed.trip
    healed.stored(10, 11)
    end = BookingEvent(
        trip.booking_id, "delivered", START + timedelta(seconds=20), trip.runner_id, trip.owner_id
    )
    store_batch(healed.engine, [end])
    assert healed.stage.room is not None
    assert healed.stage.room.continuity.is_behind(99)
    healed.healing._begin(healed.stage.room, 0.0)
    messages = await joined.wire.messages(until=b'"status":"completed"')
    await closed(joined)
    messages += await joined.wire.messages()
    assert sorted(set(seqs(messages))) == [1, 2, 3, 4]
    assert joined.seat.code() == 1000


@pytest.mark.gen_test
async def test_a_silent_room_asks_and_gets_what_nothing_followed(
    healed: Healed, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingest was killed between COMMIT and sending."""
    monkeypatch.setattr(healing_module, "LOOK_S", 0.01)
    joined = await healed.join(wires[0])
    healed.stored(10)
    assert healed.stage.room is not None
    healed.stage.room.silence.heard(time.monotonic() - 60, 10.0)
    there = asyncio.Event()

    async def wait() -> None:
        assert await told(joined, 3) == [1, 2, 3]
        there.set()

    waiting = asyncio.create_task(wait())
    await first_of(asyncio.create_task(healed.healing.watch()), there)
    await waiting


@pytest.mark.gen_test
async def test_where_tracks_stand_tells_of_what_was_missed(
    healed: Healed, wires: list[Wire]
) -> None:
    """What an ingest process says when it starts."""
    joined = await healed.join(wires[0])
    healed.stored(10)
    moves = [m for m in recent_moves(healed.engine, 60) if m.booking_id == healed.trip.booking_id]
    await healed.publish(moves)
    assert await told(joined, 3) == [1, 2, 3]
    await healed.publish(moves)
    assert healed.metric("gaps") == 1


@pytest.mark.gen_test
async def test_while_the_database_is_away_a_room_waits(
    healed: Healed, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing_module, "RETRY_S", 0.01)
    joined = await healed.join(wires[0])
    healed.fails = 3
    healed.stored(10)
    await healed.publish(healed.stored(11))
    assert await told(joined, 4) == [1, 2, 3, 4]
    assert healed.reads == 4


@pytest.mark.gen_test
async def test_the_plain_stream_gets_the_newest_position(healed: Healed, wires: list[Wire]) -> None:
    room = await healed.stage.enter()
    seat, queue = Seat(healed.stage.services), wires[0].send_queue
    subscriber = Subscriber(room, seat, healed.stage.principal(), queue)
    healed.stage.rooms.join(subscriber)
    subscriber.begin()
    healed.stored(10, 11)
    await healed.publish(healed.stored(12))
    found = seqs(await wires[0].messages(until=b'"seq":5,'))
    assert list(found) == [2, 5]


@pytest.mark.gen_test
async def test_a_restored_backup_sends_everybody_back(healed: Healed, wires: list[Wire]) -> None:
    """In its new epoch they get the whole route."""
    joined = await healed.join(wires[0])
    with healed.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE tracks SET epoch = 'new', version = version + 1 WHERE booking_id = :b"),
            {"b": healed.trip.booking_id},
        )
    await healed.publish(healed.stored(10))
    await closed(joined)
    assert joined.seat.code() == 1001


@pytest.mark.gen_test
async def test_who_has_just_joined_misses_nothing_either(healed: Healed, wires: list[Wire]) -> None:
    """Healed while it catches up: the rows behind the gap are read, too."""
    await healed.join(wires[0])
    healed.stage.gate.clear()
    late = await Joined.join(healed.stage, wires[1])
    await healed.publish(healed.stored(10))
    healed.stored(11)
    await healed.publish(healed.stored(12))
    await until(lambda: healed.metric("rooms_healed") > 0)
    healed.stage.gate.set()
    await late.settled()
    assert await told(late, 5) == [1, 2, 3, 4, 5]


@pytest.mark.gen_test
async def test_the_fleet_is_told_of_what_it_has_missed(healed: Healed) -> None:
    """A trip that ended, one that began, one that moved."""
    fleet: Fleet = healed.stage.services.fleet
    gone, moved = StoredTrip(healed.engine), StoredTrip(healed.engine)

    async def read(ids: Collection[UUID] | None) -> list[ActiveTrip]:
        return active_trips(healed.engine, ids)

    await fleet.enter(read)
    assert fleet.table is not None
    end = BookingEvent(
        gone.booking_id, "delivered", NOW - timedelta(minutes=1), gone.runner_id, gone.owner_id
    )
    store_batch(healed.engine, [end])
    moved.add(1)
    new = StoredTrip(healed.engine)
    await healed.healing._ask_for_fleet(time.monotonic())
    assert {moved.booking_id, new.booking_id} <= fleet.table.outdated
    assert healed.trip.booking_id not in fleet.table.outdated
    assert fleet.table._trips[gone.booking_id.int].ended_at is not None


@pytest.mark.gen_test
async def test_a_gap_that_opens_behind_a_heal_is_healed_too(
    healed: Healed, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published while the broadcast waits for the heal, so before that has ended."""
    monkeypatch.setattr(healing_module, "RETRY_S", 0.01)
    joined = await healed.join(wires[0])
    renew, waiting = healed.stage.broadcast.renew, list[asyncio.Task[None]]()

    async def renewed(room: Room, state: LiveState) -> None:
        if not waiting:
            healed.stored(20)
            lost_behind = healed.stored(21)
            waiting.append(asyncio.create_task(healed.publish(lost_behind)))
        await renew(room, state)

    monkeypatch.setattr(healed.stage.broadcast, "renew", renewed)
    healed.stored(10)
    await healed.publish(healed.stored(11))
    assert await told(joined, 6) == [1, 2, 3, 4, 5, 6]


@pytest.mark.gen_test
async def test_a_room_that_begins_with_a_gap_is_healed_for_whoever_joins_later(
    healed: Healed, wires: list[Wire]
) -> None:
    """A share link is checked between entering and joining: that may take long."""
    entering = asyncio.create_task(healed.stage.rooms.enter(healed.trip.booking_id, slow(healed)))
    await asyncio.sleep(0)
    healed.stored(10)
    await healed.publish(healed.stored(11))  # the change before it is lost
    room = await entering
    assert room is not None
    healed.stage.room = room
    await until(lambda: not room.continuity.is_broken)
    assert room.state is not None
    assert room.state.head_seq == 4
    healed.stage.rooms.withdraw(room)


def slow(healed: Healed) -> Callable[[UUID], Awaitable[LiveState | None]]:
    """Reads at once, and answers later."""

    async def read(_: UUID) -> LiveState | None:
        state = healed.stage.state
        await asyncio.sleep(0.05)
        return state

    return read


@pytest.mark.gen_test
async def test_the_plain_stream_gets_the_marker_though_late_waypoints_followed(
    healed: Healed, wires: list[Wire]
) -> None:
    room = await healed.stage.enter()
    seat, queue = Seat(healed.stage.services), wires[0].send_queue
    subscriber = Subscriber(room, seat, healed.stage.principal(), queue)
    healed.stage.rooms.join(subscriber)
    subscriber.begin()
    healed.stored(20)
    healed.stored(10)  # late: the marker stays where it is
    room.continuity.is_behind(99)
    room._look_for_gap()
    assert list(seqs(await wires[0].messages(until=b'"seq":3,'))) == [2, 3]


@pytest.mark.gen_test
async def test_reading_the_marker_again_changes_nothing_else(healed: Healed) -> None:
    """What was read may be older than what was healed meanwhile, or newer than what was told."""
    room = await healed.stage.enter()
    assert room.state is not None
    old = live_state(healed.engine, healed.trip.booking_id)
    assert old is not None
    old.status = "requested"
    room.begin(old)
    assert room.state.status == "active"
    healed.stored(10)
    newer = live_state(healed.engine, healed.trip.booking_id)
    assert newer is not None
    room.begin(newer)
    assert (room.state.head_seq, room.state.last and room.state.last.seq) == (2, 2)
