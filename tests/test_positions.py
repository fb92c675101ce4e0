"""workers.relay.positions on a real broker: rooms' partitions are read, and nothing is missed."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from uuid import UUID

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from tests.test_assignment import PARTITIONS, booking
from tests.test_relay import Ends, until
from tests.viewing import active_state, stored_waypoint
from tracking.domain.changes import BookingChanges, TrackMove
from tracking.domain.tracks import ActiveTrip, LiveState
from tracking.live.room import Room
from workers.relay import receiving, sending
from workers.relay.assignment import LINGER_S, Reading
from workers.relay.checks import receiver_checks

ROOMS = {"LIVE_READS": "rooms", "RELAY_PARTITIONS": str(PARTITIONS)}


@pytest.fixture
def ends(io_loop: object, environ: dict[str, str]) -> Iterator[Ends]:
    """What nobody watches any more is let go soon."""
    with ExitStack() as stack:
        made = Ends(stack, environ, 0.2, **ROOMS)
        yield made
        assert made.died == []


def change(booking_id: UUID, version: int) -> BookingChanges:
    waypoint = stored_waypoint(booking_id, version)
    return BookingChanges(booking_id, [waypoint], TrackMove("epoch", version - 1, version, version))


def state_of(booking_id: UUID, version: int) -> LiveState:
    state = active_state(version, booking_id)
    state.version = version
    return state


async def enter(ends: Ends, booking_id: UUID, version: int = 0) -> Room:
    async def read(_: UUID) -> LiveState:
        return state_of(booking_id, version)

    room = await ends.rooms.enter(booking_id, read)
    assert room is not None
    return room


@pytest.mark.gen_test
async def test_the_first_room_reads_its_partition_and_the_last_one_ends_it(ends: Ends) -> None:
    await ends.start()
    assert ends.receiver.partitions == 1
    job = asyncio.create_task(ends.receiver.assignment.run())
    rooms = [await enter(ends, booking(partition)) for partition in (0, 1, 2, 3, 3)]
    assert ends.receiver.partitions == PARTITIONS
    changes = [change(room.booking_id, 1) for room in rooms]
    await ends.sender.publish(changes)
    await ends.arrives(changes)
    for room in rooms[:4]:
        ends.rooms.withdraw(room)
    await until(lambda: ends.receiver.partitions == 1)
    before = ends.metric("bundles_received")
    await ends.sender.publish([change(room.booking_id, 2) for room in rooms])
    last = change(rooms[4].booking_id, 3)
    await ends.sender.publish([last])
    await ends.arrives([last])
    assert ends.metric("bundles_received") == before + 2  # of partition 3, of which one is left
    job.cancel()


@pytest.mark.gen_test
@pytest.mark.parametrize("read_version", [4, 5], ids=["before the commit", "behind it"])
async def test_what_is_published_while_the_state_is_read_is_told_once(
    ends: Ends, read_version: int
) -> None:
    """The position was fixed before: nothing is missed, and what comes again is dropped."""
    await ends.start()
    told: list[BookingChanges] = []

    async def publish(bookings: Sequence[BookingChanges]) -> None:
        for each in bookings:
            room = ends.rooms.room(each.booking_id)
            assert room is not None
            told.extend(room.take(each))
        ends.got += bookings

    ends.receiver._publish = publish
    for partition in range(PARTITIONS):
        one = booking(partition)
        fifth, sixth = change(one, 5), change(one, 6)

        async def read(_: UUID, one: UUID = one, fifth: BookingChanges = fifth) -> LiveState:
            await ends.sender.publish([fifth])
            await ends.arrives([fifth])
            return state_of(one, read_version)

        room = await ends.rooms.enter(one, read)
        assert room is not None
        assert room.state is not None
        assert (told, room.state.head_seq, room.continuity.version) == ([], 5, 5)
        await ends.sender.publish([fifth, sixth])
        await ends.arrives([sixth])
        assert told == [sixth]
        told.clear()


@pytest.mark.gen_test
async def test_without_rooms_it_is_known_how_those_do_that_store(ends: Ends) -> None:
    await ends.start()
    await until(lambda: len(ends.receiver.processes) == 1)
    assert (ends.receiver.partitions, ends.receiver.processes.delay_s()) == (1, 1.5)
    checks = receiver_checks(ends.receiver)
    assert {name: check() for name, check in checks.items()} == {"relay": "ok", "ingest": "ok"}
    assert ends.receiver.connected.is_set()


@pytest.mark.gen_test
async def test_who_watches_all_trips_is_told_of_all(ends: Ends) -> None:
    await ends.start()
    changes = [change(booking(partition), 1) for partition in range(PARTITIONS)]

    async def read(_: object) -> list[ActiveTrip]:
        await ends.sender.publish(changes)
        await ends.arrives(changes)
        return []

    await ends.fleet.enter(read)
    assert ends.receiver.partitions == PARTITIONS


@pytest.mark.gen_test
async def test_without_a_broker_rooms_open_after_a_moment(
    io_loop: object, environ: dict[str, str]
) -> None:
    with ExitStack() as stack:
        ends = Ends(stack, {**environ, "KAFKA_BROKERS": "127.0.0.1:1"}, LINGER_S, **ROOMS)
        ends.start_receiver()
        began = time.monotonic()
        rooms = await asyncio.gather(*(enter(ends, booking(each)) for each in range(PARTITIONS)))
        assert time.monotonic() - began < 30  # no thread waits for Kafka, and no room for the next
        assert all(room.state for room in rooms)
        assert ends.receiver.partitions == 0
        assert ends.died == []


@pytest.mark.gen_test
async def test_both_sides_follow_a_topic_that_grows(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each booking is in another partition then."""
    for module in (sending, receiving):
        monkeypatch.setattr(module, "LOOK_S", 0.2)
    await ends.start()
    one = booking(7, 8)
    await enter(ends, one)
    admin = AdminClient({"bootstrap.servers": ends.brokers})
    admin.create_partitions([NewPartitions(ends.topic, 8)])[ends.topic].result(30)
    await until(lambda: ends.sender._partitions == ends.receiver._positions.count == 8)
    await until(lambda: ends.receiver.assignment.wanted.partitions == ends.receiver._positions.read)
    for version in itertools.count(1):  # the first ones may be dropped, and are healed
        await ends.sender.publish([change(one, version)])
        await asyncio.sleep(0.05)
        if ends.got:
            break


@pytest.mark.gen_test
async def test_a_partition_whose_end_nobody_tells_holds_up_no_other(ends: Ends) -> None:
    await ends.start()
    positions = ends.receiver._positions
    positions.count = 9  # more than there are: nobody leads them
    ends.receiver.assignment.told(Reading(0, 9, frozenset()))
    absent, there = booking(8, 9), booking(2, 9)
    rooms = [await enter(ends, each) for each in (absent, there)]
    assert all(room.state for room in rooms)
    await until(lambda: 2 in positions.read)
    assert 8 not in positions.read
