"""workers.relay.assignment: which partitions are wanted, and when a room may read its state."""

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from tests.running import wait_until
from tests.viewing import active_state
from tracking.domain.tracks import ActiveTrip, LiveState
from tracking.live.fleet import Fleet
from tracking.live.room import Room
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from workers.relay.assignment import Assignment, Reading

PARTITIONS = 4
LINGER_S = 60.0


def booking(partition: int, partitions: int = PARTITIONS) -> UUID:
    """A booking of this partition."""
    return UUID(int=uuid4().int >> 8 << 8 | partition + partitions * 3)


class Watched:
    """Rooms, a fleet, and what is wanted for them; the test is the relay's thread."""

    def __init__(self, reads_all: bool = False, wait_s: float = 60.0) -> None:
        self.rooms, self.fleet = Rooms(), Fleet(Metrics(), 0.0)
        self.assignment = Assignment(self.rooms, self.fleet, reads_all, LINGER_S, wait_s)
        self.reads = 0

    @property
    def wanted(self) -> set[int]:
        return set(self.assignment.wanted.partitions)

    def follow(self, total: int = PARTITIONS) -> Reading:
        """All that is wanted is read."""
        wanted = self.assignment.wanted
        partitions = frozenset(each for each in wanted.partitions if each < total)
        reading = Reading(wanted.number, total, partitions)
        self.assignment.told(reading)
        return reading

    async def enter(self, booking_id: UUID) -> Room:
        async def read(_: UUID) -> LiveState:
            self.reads += 1
            return active_state(0, booking_id)

        room = await self.rooms.enter(booking_id, read)
        assert room is not None
        return room

    async def read_trips(self, _: object) -> list[ActiveTrip]:
        self.reads += 1
        return []


@pytest.fixture
def watched(io_loop: object) -> Watched:
    made = Watched()
    made.follow()  # the topic is there
    made.follow()
    return made


async def until(true: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, true, "true")


async def steps() -> None:
    """Whatever may go on does."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_who_reads_all_does_so_whoever_watches(io_loop: object) -> None:
    watched = Watched(reads_all=True)
    assert watched.wanted == set()
    watched.follow()
    assert watched.wanted == {0, 1, 2, 3}
    watched.follow()
    room = await watched.enter(booking(2))
    watched.rooms.withdraw(room)
    for now in (0.0, LINGER_S, 2 * LINGER_S):
        watched.assignment._let_go(now)
    assert watched.wanted == {0, 1, 2, 3}


@pytest.mark.gen_test
async def test_without_rooms_one_partition_is_read(watched: Watched) -> None:
    assert len(watched.wanted) == 1
    for now in (0.0, LINGER_S, 2 * LINGER_S):
        watched.assignment._let_go(now)
    assert len(watched.wanted) == 1


@pytest.mark.gen_test
async def test_a_room_reads_its_state_when_its_partition_has_a_position(watched: Watched) -> None:
    (first,) = watched.wanted
    other = (first + 1) % PARTITIONS
    entering = asyncio.create_task(watched.enter(booking(other)))
    await steps()
    assert watched.wanted == {first, other}
    # Another answer, of what was wanted before.
    watched.assignment.told(Reading(1, PARTITIONS, frozenset({first})))
    await steps()
    assert watched.reads == 0
    watched.follow()
    await entering
    assert watched.reads == 1
    number = watched.assignment.wanted.number
    await watched.enter(booking(other))
    assert (watched.reads, watched.assignment.wanted.number) == (2, number)


@pytest.mark.gen_test
async def test_a_partition_is_let_go_sixty_seconds_after_its_last_room(watched: Watched) -> None:
    (first,) = watched.wanted
    other = (first + 1) % PARTITIONS
    entering = [asyncio.create_task(watched.enter(booking(other))) for _ in range(2)]
    await steps()
    watched.follow()
    rooms = [await each for each in entering]
    watched.rooms.withdraw(rooms[0])
    watched.assignment._let_go(0.0)
    watched.assignment._let_go(LINGER_S)
    assert watched.wanted == {other}  # the one that nobody needs is gone
    watched.rooms.withdraw(rooms[1])
    entering = [asyncio.create_task(watched.enter(booking(first)))]
    await steps()
    watched.assignment._let_go(100.0)
    watched.assignment._let_go(99.9 + LINGER_S)
    assert watched.wanted == {first, other}
    watched.assignment._let_go(100.0 + LINGER_S)
    assert watched.wanted == {first}


@pytest.mark.gen_test
async def test_a_room_that_comes_back_begins_the_sixty_seconds_anew(watched: Watched) -> None:
    (first,) = watched.wanted
    other = (first + 1) % PARTITIONS
    keep = asyncio.create_task(watched.enter(booking(first)))
    again = asyncio.create_task(watched.enter(booking(other)))
    await steps()
    watched.follow()
    watched.rooms.withdraw(await again)
    watched.assignment._let_go(0.0)
    watched.rooms.withdraw(await watched.enter(booking(other)))
    watched.assignment._let_go(LINGER_S)
    assert watched.wanted == {first, other}
    watched.assignment._let_go(2 * LINGER_S)
    assert watched.wanted == {first}
    await keep


@pytest.mark.gen_test
async def test_one_that_was_let_go_needs_a_new_position(watched: Watched) -> None:
    """Though the thread has said, a moment before, that it reads it."""
    (first,) = watched.wanted
    other = (first + 1) % PARTITIONS
    room = asyncio.create_task(watched.enter(booking(other)))
    keep = asyncio.create_task(watched.enter(booking(first)))
    await steps()
    old = watched.follow()
    watched.rooms.withdraw(await room)
    await keep
    watched.assignment._let_go(0.0)
    watched.assignment._let_go(LINGER_S)
    entering = asyncio.create_task(watched.enter(booking(other)))
    await steps()
    reads = watched.reads
    watched.assignment.told(old)
    await steps()
    assert (watched.reads, entering.done()) == (reads, False)
    watched.follow()
    await entering


@pytest.mark.gen_test
async def test_a_room_does_not_wait_for_ever(io_loop: object) -> None:
    watched = Watched(wait_s=0.05)
    await watched.enter(booking(0))  # no broker has ever answered
    await watched.fleet.enter(watched.read_trips)
    assert watched.reads == 2
    watched.follow()
    assert watched.wanted == {0, 1, 2, 3}


@pytest.mark.gen_test
async def test_who_watches_all_trips_reads_all_partitions(watched: Watched) -> None:
    entering = asyncio.create_task(watched.fleet.enter(watched.read_trips))
    await steps()
    assert (watched.wanted, watched.reads) == ({0, 1, 2, 3}, 0)
    watched.follow()
    await entering
    assert watched.reads == 1
    watched.assignment._let_go(0.0)
    watched.assignment._let_go(LINGER_S)
    assert watched.wanted == {0, 1, 2, 3}
    watched.fleet.withdraw()
    watched.fleet.table = None  # as `tick` does
    watched.assignment._let_go(100.0)
    watched.assignment._let_go(100.0 + LINGER_S)
    assert len(watched.wanted) == 1


@pytest.mark.gen_test
async def test_a_topic_with_more_partitions_has_each_booking_in_another_one(
    watched: Watched,
) -> None:
    entering = asyncio.create_task(watched.enter(booking(6, 8)))
    await steps()
    watched.follow()
    room = await entering
    assert 2 in watched.wanted
    watched.follow(total=0)
    assert watched.wanted == set()
    for total, partition in ((8, 6), (4, 2), (8, 6)):
        number = watched.assignment.wanted.number
        watched.follow(total)
        assert watched.wanted == {partition}
        assert watched.assignment.wanted.number > number  # what was read is none of it
        watched.follow(total)
    watched.rooms.withdraw(room)
    entering = asyncio.create_task(watched.enter(booking(1, 8)))
    await steps()
    watched.follow(total=8)
    await entering
    watched.assignment._let_go(0.0)
    watched.assignment._let_go(LINGER_S)
    assert watched.wanted == {1}


@pytest.mark.gen_test
async def test_what_is_not_needed_is_let_go_by_itself(io_loop: object) -> None:
    watched = Watched()
    watched.assignment._linger_s = 0.01
    watched.follow()
    (first,) = watched.wanted
    entering = asyncio.create_task(watched.enter(booking((first + 1) % PARTITIONS)))
    await steps()
    watched.follow()
    await entering
    job = asyncio.create_task(watched.assignment.run())
    await until(lambda: first not in watched.wanted)
    job.cancel()
    assert len(watched.wanted) == 1
