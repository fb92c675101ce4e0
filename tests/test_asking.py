"""tracking.live.asking: a router is asked of watched ways only, when they have changed enough."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from tests.simulated import Spot, at
from tests.test_eta import routed_too
from tests.viewing import Told, active_state, entered, stored_waypoint
from tracking.domain.eta import Eta, NoEta
from tracking.domain.hops import metres_between
from tracking.domain.legs import Leg
from tracking.domain.routed import Answer
from tracking.domain.trip_eta import Ends, Samples
from tracking.errors import DatabaseUnavailable
from tracking.live.asking import AT_ONCE, Asking
from tracking.live.etas import ENDS_S, Etas
from tracking.live.room import Room
from tracking.live.rooms import Rooms

NOW = datetime.now(UTC)
THERE = at(0, 0.0, Spot(0, 0))
PLACE = (THERE.longitude, THERE.latitude)


class Router:
    """Says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self.seconds: float | None = 60.0
        self.let = asyncio.Event()
        self.let.set()
        self.under_way = self.most = 0

    async def ask(self, start: tuple[float, float], end: tuple[float, float]) -> float | None:
        self.asked.append((start, end))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.let.wait()
        self.under_way -= 1
        return self.seconds

    def metres(self) -> list[int]:
        """How far away everybody was."""
        return [round(metres_between(*start, THERE), -1) // 1 for start, _ in self.asked]  # type: ignore[misc]


class Scene:
    """Rooms, who watches, and what was kept."""

    def __init__(self) -> None:
        self.rooms, self.router = Rooms(), Router()
        self.kept: list[tuple[UUID, Answer]] = []
        self.is_away = False
        self.asking = Asking(self.rooms, self.router.ask, self.keep)
        self.now = 0.0
        self.ends: dict[UUID, Ends] = {}

    async def keep(self, answers: Sequence[tuple[UUID, Answer]]) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        self.kept += answers

    async def watched(self, metres: float) -> tuple[Room, Told]:
        """A room with one viewer, its runner so far from the dropoff."""
        state = active_state(1, booking_id=uuid4())
        state.phase, state.last, state.started_at = "to_dropoff", None, NOW
        room = await entered(self.rooms, state)
        subscriber = Told(room)
        self.rooms.join(subscriber)
        self.ends[room.booking_id] = Ends(dropoff=PLACE)
        move(room, metres, 1)
        return room, subscriber

    async def look(self, seconds: float = 1.0) -> None:
        """A second, or more, later; then everybody has his answer."""
        self.now += seconds
        await self.asking.look(self.now, self.ends)
        await self.settle()

    async def settle(self) -> None:
        while self.router.let.is_set() and self.asking._tasks:
            await asyncio.gather(*self.asking._tasks)
        await asyncio.sleep(0)


def move(room: Room, metres: float, seq: int, seconds: float = 0.0) -> None:
    """The marker stands there."""
    place = at(seq, 0.0, Spot(0, metres))
    assert room.state is not None
    room.state.last = replace(
        stored_waypoint(room.booking_id, seq), longitude=place.longitude, latitude=place.latitude,
        recorded_at=NOW + timedelta(seconds=seconds), received_at=NOW,
    )  # fmt: skip
    room.age(NOW, 0.0)


@pytest.mark.gen_test
async def test_it_is_asked_again_after_200_m_a_minute_or_in_another_band() -> None:
    scene = Scene()
    room, _ = await scene.watched(1_900)
    await scene.look()
    assert scene.router.asked == [((room.state.last.longitude, room.state.last.latitude), PLACE)]  # type: ignore[union-attr]
    await scene.look()
    move(room, 1_710, 2)
    await scene.look()
    assert scene.router.metres() == [1_900]
    move(room, 1_690, 3)
    await scene.look()
    assert scene.router.metres() == [1_900, 1_690]
    move(room, 1_680, 4)
    await scene.look(59)
    assert len(scene.router.asked) == 2
    await scene.look(1)
    assert scene.router.metres() == [1_900, 1_690, 1_680]
    await scene.look(100)  # from the same waypoint it would say the same
    assert len(scene.router.asked) == 3
    move(room, 1_020, 5)
    await scene.look()
    move(room, 990, 6)
    await scene.look()
    assert scene.router.metres()[3:] == [1_020, 990]
    answer = scene.asking.answer(room.booking_id)
    assert answer is not None
    assert (answer.start.seq, answer.seconds) == (6, 60.0)


@pytest.mark.parametrize(
    "what", ["nobody", "ended", "silent", "no place", "before", "arrived", "erased", "no report"]
)
@pytest.mark.gen_test
async def test_what_is_shown_to_nobody_is_never_asked(what: str) -> None:
    scene = Scene()
    room, subscriber = await scene.watched(1_900)
    state = room.state
    assert state is not None
    if what == "nobody":
        room.entering += 1  # somebody is about to watch: the room is there
        room.leave(subscriber)
        assert scene.rooms.all() == [room]
    elif what == "ended":
        state.status = "completed"
    elif what == "silent":
        room.age(NOW + timedelta(minutes=5), 0.0)
    elif what == "no place":
        scene.ends[room.booking_id] = Ends(pickup=PLACE)
    elif what == "before":
        state.status = state.phase = "requested"
    elif what == "arrived":
        state.legs = (Leg("dropoff", "arrived"),)
    elif what == "erased":
        room.is_erased = True
    else:
        state.last = None
    await scene.look()
    assert scene.router.asked == []


@pytest.mark.gen_test
async def test_who_is_not_watched_any_more_is_forgotten() -> None:
    scene = Scene()
    room, subscriber = await scene.watched(1_900)
    await scene.look()
    assert scene.asking.answer(room.booking_id) is not None
    room.leave(subscriber)
    await scene.look()
    assert scene.asking.answer(room.booking_id) is None


@pytest.mark.gen_test
async def test_few_are_asked_at_once_the_longest_unasked_first() -> None:
    scene = Scene()
    scene.router.let.clear()
    for number in range(30):
        await scene.watched(1_000 + 10 * number)
    for _ in range(3):
        await scene.look()
    assert len(scene.router.asked) == scene.router.most == AT_ONCE
    scene.router.let.set()
    await scene.settle()
    assert (len(scene.router.asked), scene.router.most) == (30, AT_ONCE)
    assert len({start for start, _ in scene.router.asked}) == 30
    asked = [room.booking_id for room in scene.rooms.all()]
    late, _ = await scene.watched(500)
    for number, booking_id in enumerate(asked):
        move(scene.rooms.room(booking_id), 3_000 + 10 * number, 2)  # type: ignore[arg-type]
    await scene.look()
    assert scene.router.metres()[30] == 500
    assert late.booking_id not in asked


@pytest.mark.gen_test
async def test_an_answer_from_farther_back_does_not_replace_a_newer_one() -> None:
    scene = Scene()
    room, _ = await scene.watched(1_900)
    scene.router.let.clear()
    await scene.look()
    await asyncio.sleep(0)
    first, scene.router.let = scene.router.let, asyncio.Event()
    move(room, 1_500, 2)
    await scene.look()
    assert scene.router.metres() == [1_900, 1_500]
    scene.router.let.set()
    for _ in range(5):  # turns of the loop, until the newer one is here
        await asyncio.sleep(0)
    assert scene.router.under_way == 1
    first.set()
    await scene.settle()
    answer = scene.asking.answer(room.booking_id)
    assert answer is not None
    assert answer.start.seq == 2


@pytest.mark.gen_test
async def test_a_router_that_says_nothing_is_asked_when_it_is_due_and_not_before() -> None:
    scene = Scene()
    room, _ = await scene.watched(1_900)
    scene.router.seconds = None
    for second in range(2, 20):
        move(room, 1_900 - second, second)
        await scene.look()
    assert len(scene.router.asked) == 1
    assert scene.asking.answer(room.booking_id) is None
    assert scene.kept == []


@pytest.mark.gen_test
async def test_the_first_answer_of_each_band_is_kept_also_after_an_outage() -> None:
    scene = Scene()
    scene.is_away = True
    room, _ = await scene.watched(1_900)
    for seq, metres in enumerate((1_900, 1_600, 1_300, 900, 600), 2):
        move(room, metres, seq)
        await scene.look()
    with pytest.raises(DatabaseUnavailable):
        await scene.asking.keep()
    move(room, 400, 9)
    await scene.look()
    scene.is_away = False
    for _ in range(2):
        await scene.asking.keep()
    assert room.state is not None
    assert {track_id for track_id, _ in scene.kept} == {room.state.track_id}
    assert [answer.start.seq for _, answer in scene.kept] == [2, 5, 9]


@pytest.mark.gen_test
async def test_viewers_and_requests_are_told_by_the_router_and_without_it_by_the_distance() -> None:
    scene = Scene()
    room, subscriber = await scene.watched(700)

    async def read_samples(_: Samples) -> Samples:
        return Samples(1, 1, routed_too(40))

    async def read_ends(_: object) -> dict[UUID, Ends]:
        return scene.ends

    etas = Etas(scene.rooms, read_samples, read_ends, scene.asking)

    async def told(seconds: float) -> Eta | NoEta | None:
        await etas.look(seconds)
        await scene.settle()
        await etas.look(seconds + 1)
        return room.eta

    first = await told(1.0)
    assert isinstance(first, Eta)
    assert first.method == "router"
    assert first.arrives_at == pytest.approx(NOW.timestamp() + 120, abs=2)
    # It does not answer any more, and the one it gave is of a place far back.
    scene.router.seconds = None
    move(room, 290, 2, seconds=45)
    move_on = await told(ENDS_S + 1)
    assert isinstance(move_on, Eta)
    assert move_on.method == "distance"
    methods = [each["eta"]["method"] for each in subscriber.told if each["type"] == "eta"]
    assert methods == ["distance", "router", "distance"]
    assert len(scene.kept) == 1
