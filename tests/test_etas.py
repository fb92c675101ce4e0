"""tracking.live.etas: told when it has changed enough, and not while nobody knows."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.test_trip_eta import ENDS, history
from tests.viewing import Told, active_state, entered, stored_waypoint
from tracking.domain.trip_eta import Ends, Samples
from tracking.errors import DatabaseUnavailable
from tracking.live.etas import ENDS_S, HISTORY_S, Etas
from tracking.live.room import Room
from tracking.live.rooms import Rooms


@dataclass
class Table:
    """What the database has, and how often it was asked."""

    samples: Samples = field(default_factory=Samples)
    ends: Ends = ENDS
    asked: list[int] = field(default_factory=list)  # of how many bookings
    read: int = 0

    async def read_samples(self, _: Samples) -> Samples:
        self.read += 1
        return self.samples

    async def read_ends(self, booking_ids: Collection[UUID]) -> dict[UUID, Ends]:
        self.asked.append(len(booking_ids))
        return dict.fromkeys(booking_ids, self.ends)


async def watched(rooms: Rooms) -> tuple[Room, Told]:
    state = active_state(1)
    last = stored_waypoint(state.booking_id, 1)
    now = datetime.now(UTC)
    state.last = replace(last, longitude=106.8, latitude=-6.2, recorded_at=now, received_at=now)
    state.started_at = now
    room = await entered(rooms, state)
    subscriber = Told(room)
    room.join(subscriber)
    room.age(now, 0.0)
    return room, subscriber


@pytest.mark.gen_test
async def test_an_eta_is_told_once_and_again_when_it_has_changed() -> None:
    rooms, table = Rooms(), Table(Samples(1, 1, history()))
    etas = Etas(rooms, table.read_samples, table.read_ends)
    room, subscriber = await watched(rooms)
    for now in (1.0, 2.0):
        await etas.look(now)
    told = [each for each in subscriber.told if each["type"] == "eta"]
    assert [each["eta"]["samples"] for each in told] == [40]
    assert (table.asked, table.read) == ([1], 1)
    assert room.state is not None
    assert room.state.last is not None
    room.state.last = replace(room.state.last, recorded_at=datetime.now(UTC) + timedelta(minutes=3))
    await etas.look(1 + ENDS_S)
    assert len([each for each in subscriber.told if each["type"] == "eta"]) == 2
    assert table.asked == [1, 1]  # places may be corrected
    table.samples = Samples(2, 2, history())
    await etas.look(1 + HISTORY_S)
    assert table.read == 2


@pytest.mark.gen_test
async def test_nobody_is_told_that_there_is_none_unless_there_was_one() -> None:
    rooms, table = Rooms(), Table()
    etas = Etas(rooms, table.read_samples, table.read_ends)
    room, subscriber = await watched(rooms)
    await etas.look(1.0)
    assert not [each for each in subscriber.told if each["type"] == "eta"]
    table.samples = Samples(1, 1, history())
    await etas.look(1 + HISTORY_S)
    room.age(datetime.now(UTC) + timedelta(minutes=5), 0.0)
    await etas.look(2 + HISTORY_S)
    told = [each for each in subscriber.told if each["type"] == "eta"]
    assert [each["eta_reason"] for each in told] == [None, "stale"]


@pytest.mark.gen_test
async def test_an_eta_is_withdrawn_also_while_the_database_is_away() -> None:
    rooms, table = Rooms(), Table(Samples(1, 1, history()))

    async def away(_: object) -> Any:
        raise DatabaseUnavailable("away")

    etas = Etas(rooms, table.read_samples, table.read_ends)
    room, subscriber = await watched(rooms)
    await etas.look(1.0)
    etas._read_samples = etas._read_ends = away
    room.age(datetime.now(UTC) + timedelta(minutes=5), 0.0)
    await etas.look(2 + HISTORY_S)
    told = [each for each in subscriber.told if each["type"] == "eta"]
    assert [each["eta_reason"] for each in told] == [None, "stale"]
