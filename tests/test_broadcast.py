"""tracking.live.broadcast: an error of ours stays where it happened."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from tests.viewing import START, Joined, StoredTrip, Wire, first_of, seqs
from tracking.domain.changes import in_order
from tracking.domain.events import LocationUpdate
from tracking.live import broadcast, freshness
from tracking.live.freshness import tell_freshness
from tracking.live.room import Room
from tracking.store.ingest.batch import store_batch
from tracking.wire.messages import location_update


@pytest.fixture
def wires(io_loop: object) -> Iterator[list[Wire]]:
    made = [Wire(small=False) for _ in range(12)]
    yield made
    for each in made:
        each.close()


async def crowd(engine: sa.Engine, wires: list[Wire]) -> list[Joined]:
    trip = StoredTrip(engine)
    trip.add(1)
    stage = trip.stage()
    joined = [await Joined.join(stage, wire) for wire in wires]
    for each in joined:
        await each.settled()
    return joined


async def publish(joined: Joined, *seqs: int, late: bool = False) -> None:
    waypoints = [joined.stage.waypoint(seq, late=late) for seq in seqs]
    await joined.stage.broadcast.publish(in_order([], waypoints))


def fail(*_: object) -> None:
    raise ZeroDivisionError("a bug")


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["single", "cohort", "late"])
async def test_an_error_in_one_subscriber_stops_neither_the_others_nor_the_next_batch(
    engine: sa.Engine, wires: list[Wire], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    joined = await crowd(engine, wires)
    broken, *others = joined
    if where != "single":
        await publish(broken, 2)
        assert broken.subscriber.cohort is not None
    queue = type(broken.subscriber.send_queue)
    send = broken.stage.broadcast._send

    def short(descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
        """Every socket takes three bytes less."""
        send(descriptors, frame[:-3])
        return [(index, len(frame) - 3) for index in range(len(descriptors))]

    def complete_or_fail(self: Any, frame: bytes, count: int) -> None:
        if self is broken.subscriber.send_queue:
            fail()
        complete(self, frame, count)

    if where == "late":
        monkeypatch.setattr(type(broken.subscriber), "accept_late", _for(broken, "accept_late"))
        await publish(broken, 3, late=True)
    else:
        complete = queue.complete
        monkeypatch.setattr(queue, "complete", complete_or_fail)
        broken.stage.broadcast._send = short
        await publish(broken, 3)
        broken.stage.broadcast._send = send
    await publish(broken, 4)
    assert [each.seat.code() for each in joined] == [1011] + [None] * len(others)
    expected = [1, 3, 4] if where == "single" else [1, 2, 3, 4]
    for each in others:
        assert list(seqs(await each.wire.messages(until=b'"seq":4'))) == expected


def _for(joined: Joined, name: str) -> Any:
    method = getattr(type(joined.subscriber), name)

    def fails_for_one(self: object, *arguments: object) -> Any:
        if self is joined.subscriber:
            fail()
        return method(self, *arguments)

    return fails_for_one


@pytest.mark.gen_test
async def test_an_error_in_one_room_keeps_nothing_from_the_others_nor_from_the_next_batch(
    engine: sa.Engine, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken,) = await crowd(engine, wires[:1])
    original = location_update

    def encode(waypoint: Any) -> Any:
        if waypoint.seq == 2:
            fail()
        return original(waypoint)

    monkeypatch.setattr(broadcast, "location_update", encode)
    await publish(broken, 2)
    await publish(broken, 3)
    assert list(seqs(await broken.wire.messages())) == [1, 3]
    assert broken.stage.metrics.live_errors.labels("room")._value.get() == 1


@pytest.mark.gen_test
async def test_a_room_whose_freshness_cannot_be_told_hinders_no_other(
    engine: sa.Engine,
    wires: list[Wire],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (broken,) = await crowd(engine, wires[:1])
    rooms, metrics = broken.stage.rooms, broken.stage.metrics
    healthy, rounds, enough = Room(rooms.all()[0].booking_id), 0, asyncio.Event()
    monkeypatch.setattr(rooms, "all", lambda: [broken.stage.room, healthy])
    monkeypatch.setattr(freshness, "FRESHNESS_S", 0.001)

    def age(self: Room, *_: object) -> None:
        nonlocal rounds
        if self is not healthy:
            fail()
        rounds += 1
        if rounds == 3:
            enough.set()

    monkeypatch.setattr(Room, "age", age)
    task = asyncio.create_task(tell_freshness(rooms, metrics, lambda: 0.0))
    await first_of(task, enough)
    assert metrics.live_errors.labels("freshness")._value.get() >= 3
    assert len([each for each in caplog.records if each.exc_info]) == 1


@pytest.mark.gen_test
async def test_a_report_that_is_stored_already_is_heard_and_told_so(
    engine: sa.Engine, wires: list[Wire]
) -> None:
    """From the database to the viewer: a phone that repeats an old position is not silent."""
    trip = StoredTrip(engine)
    trip.add(1)
    joined = await Joined.join(trip.stage(), wires[0])
    await joined.settled()
    (welcome, _) = await wires[0].messages()
    assert (welcome["freshness"]["state"], welcome["freshness"]["reason"]) == ("lost", "no_points")
    now = datetime.now(UTC)
    ids = (trip.runner_id, trip.booking_id)
    again = LocationUpdate(*ids, 106.8, -6.2, 1.0, 1.0, START, START, now)
    await joined.stage.broadcast.publish(store_batch(engine, [again]).bookings)
    joined.subscriber.room.age(now, 0.0)
    (told,) = await wires[0].messages()
    assert (told["type"], told["state"], told["reason"]) == (
        "freshness",
        "lost",
        "no_usable_points",
    )
    assert datetime.fromisoformat(told["last_received_at"]) == now
