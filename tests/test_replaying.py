"""handlers.websocket.replaying: trips that are shown again, by a real server."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from handlers.limits import Slot
from handlers.websocket import replaying
from handlers.websocket.replay_admission import ReplayAdmission
from handlers.websocket.replay_viewer import ReplayViewer
from handlers.websocket.ticker import close_all
from tests.running import Platform, Server, Trip
from tests.served import owner, stored_trip, wait_seq
from tests.test_protocol import Client
from tests.test_store_ingest import track_of, update
from tests.viewing import START, Seat, Stage, StoredTrip, Wire
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.domain.playback import ReplayOptions
from tracking.live.replays import REPLAYS_PER_USER
from tracking.store.erasing.bookings import erase_booking
from tracking.store.ingest.batch import store_batch
from tracking.store.read.replayed import PAGE, Replayed
from tracking.store.statements import transaction


def stored(engine: sa.Engine, *seconds: float) -> Trip:
    """A trip with these waypoints, in one batch each: their seqs are in this order."""
    trip = Trip(datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, trip.runner_id, trip.owner_id)
    store_batch(engine, [accepted])
    for second in seconds:
        store_batch(engine, [update(trip, second)])
    return trip


async def replay(server: Server, trip: Trip, speed: object = 60, **query: object) -> Client:
    query = {name.rstrip("_"): value for name, value in query.items()}
    token = owner(server, trip)
    return await Client.join(server, trip.booking_id, token, replay=speed, **query)


def positions(client: Client) -> list[int]:
    return [each["seq"] for each in client.told if each["type"] == "location_update"]


def at(trip: Trip, second: float) -> str:
    return trip.at(second).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def texts(client: Client, *, until: Callable[[dict[str, Any]], bool]) -> list[str]:
    """Positions and late waypoints, as they are on the wire."""
    found: list[str] = []
    while (text := await asyncio.wait_for(client.socket.read_message(), 50)) is not None:
        assert isinstance(text, str)
        message = json.loads(text)
        if message["type"] in ("location_update", "backfill"):
            found.append(text)
        if until(message):
            break
    client.socket.close()
    return found


def never(_: dict[str, Any]) -> bool:
    return False


@pytest.mark.gen_test
async def test_the_frames_are_those_of_the_live_stream(server: Server, platform: Platform) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform, 1)
    live = await Client.join(server, trip.booking_id, owner(server, trip), since_seq=1, epoch="x")
    await live.next_of("backfill")
    # More digits than are stored: live viewers get no other ones.
    platform.update(trip, 3, speed_kmh=32.123456789, heading_degrees=231.3199920654297)
    platform.update(trip, 5.123456, speed_kmh=-1, heading_degrees=-1)
    await asyncio.to_thread(wait_seq, server, trip, 3)
    platform.update(trip, 4)  # late
    await asyncio.to_thread(wait_seq, server, trip, 4)
    platform.update(trip, 6)
    seen = await texts(live, until=lambda message: message.get("seq") == 5)
    assert [json.loads(each)["type"] for each in seen] == [
        "location_update", "location_update", "backfill", "location_update",
    ]  # fmt: skip
    arrived = await texts(await replay(server, trip, order="arrival"), until=never)
    assert arrived[1:] == seen
    recorded = await texts(await replay(server, trip), until=never)
    assert [json.loads(each)["seq"] for each in recorded] == [1, 2, 4, 3, 5]
    assert [each for each in recorded if json.loads(each)["seq"] in (2, 3, 5)] == [
        each for each in seen if json.loads(each)["type"] == "location_update"
    ]


@pytest.mark.gen_test
async def test_the_welcome_says_what_is_shown_and_1000_ends_it(
    server: Server, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1, 2, 3, 4)
    client = await replay(server, trip, 60, from_=at(trip, 1), to=at(trip, 4))
    welcome = await client.next_of("welcome")
    assert welcome["replay"] == {
        "speed": 60.0, "order": "recorded", "from": at(trip, 1).replace(".000000", ""),
        "to": at(trip, 3).replace(".000000", ""),
    }  # fmt: skip
    assert (welcome["seq"], welcome["last_position"]["seq"]) == (5, 1)
    assert welcome["recovered"] is None
    assert await client.closed() == 1000
    assert positions(client) == [2, 3, 4]


@pytest.mark.gen_test
async def test_it_is_paced_by_the_time_of_recording(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 2, 4)
    client = await replay(server, trip, 4)
    await client.next_of("location_update")
    begun = time.monotonic()
    assert await client.closed() == 1000
    assert 0.9 < time.monotonic() - begun < 20


@pytest.mark.gen_test
async def test_a_long_silence_is_shortened_and_told(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1800)
    client = await replay(server, trip, 1)
    await client.next_of("location_update")
    begun = time.monotonic()
    gap = await client.next_of("gap")
    assert gap["to"] == at(trip, 1800).replace(".000000", "")
    assert 1795 < gap["silent_s"] <= 1800
    assert gap["shown_s"] == 2.0
    assert await client.closed() == 1000
    assert time.monotonic() - begun < 40
    assert [each["type"] for each in client.told] == [
        "welcome", "location_update", "gap", "location_update",
    ]  # fmt: skip


@pytest.mark.gen_test
async def test_the_client_pauses_seeks_and_changes_the_speed(
    server: Server, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(stored, engine, *range(0, 60, 2))
    client = await replay(server, trip, 0.25)
    await client.next_of("location_update")
    await client.say(type="pause")
    said = await client.next_of("replay")
    assert (said["paused"], said["sought"], said["last_position"]) == (True, False, None)
    await client.say(type="seek", to=at(trip, 31))
    said = await client.next_of("replay")
    assert (said["at"], said["paused"], said["sought"]) == (
        at(trip, 31).replace(".000000", ""), True, True,
    )  # fmt: skip
    assert said["last_position"]["seq"] == 16  # of the 30th second
    await client.say(type="speed", speed=60)
    assert (await client.next_of("replay"))["speed"] == 60
    await client.say(type="catch_up", since_seq=0)  # is no bug of a client's
    await client.say(type="resume")
    assert (await client.next_of("replay"))["paused"] is False
    assert await client.closed() == 1000
    assert positions(client) == [1, *range(17, 31)]


@pytest.mark.gen_test
async def test_what_is_said_before_the_welcome_counts(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 5)
    client = await replay(server, trip, speed=1)
    await client.say(type="pause")
    await client.say(type="speed", speed=60)
    assert (await client.next_of("replay"))["paused"] is True
    assert client.told[0]["type"] == "welcome"
    assert (await client.next_of("replay"))["speed"] == 60
    client.socket.close()


@pytest.mark.gen_test
async def test_seeking_stays_within_what_is_shown(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 5, 10, 15)
    client = await replay(server, trip, 1, from_=at(trip, 5), to=at(trip, 11))
    await client.next_of("location_update")
    await client.say(type="seek", to=at(trip, -100))
    said = await client.next_of("replay")
    assert said["at"] == at(trip, 5).replace(".000000", "")
    await client.say(type="seek", to=at(trip, 5000))
    await client.next_of("replay")
    assert await client.closed() == 1000
    assert positions(client)[-1] == 3


@pytest.mark.gen_test
async def test_pages_follow_each_other_without_a_seam(server: Server, engine: sa.Engine) -> None:
    trip = Trip()
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, trip.runner_id, trip.owner_id)
    count = 2 * PAGE + 7
    batch: list[BookingEvent | LocationUpdate] = [
        accepted,
        *(update(trip, each / 50) for each in range(count)),
    ]
    await asyncio.to_thread(store_batch, engine, batch)
    before = server.metric("tracking_replay_frames_total")
    for order in ("recorded", "arrival"):
        client = await replay(server, trip, order=order)
        assert await client.closed() == 1000
        assert positions(client) == [*range(1, count + 1)]
    assert server.metric("tracking_replay_frames_total") - before == 2 * count


@pytest.mark.gen_test
async def test_flagged_waypoints_are_left_out(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1, 2, 3)
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE waypoints SET verdict = 1 WHERE track_id = %s AND seq IN (2, 4)",
            (track_of(engine, trip).id,),
        )
    for order in ("recorded", "arrival"):
        client = await replay(server, trip, order=order)
        assert await client.closed() == 1000
        assert positions(client) == [1, 3]


@pytest.mark.gen_test
async def test_a_trip_without_waypoints_has_an_empty_replay(
    server: Server, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(stored, engine)
    client = await replay(server, trip, 1)
    welcome = await client.next_of("welcome")
    assert (welcome["replay"]["from"], welcome["replay"]["to"]) == (None, None)
    assert await client.closed() == 1000


@pytest.mark.gen_test
async def test_who_may_watch_may_see_it_again_and_nobody_else(
    server: Server, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1)
    for user, role, code in (
        (trip.owner_id, "owner", 1000), (trip.runner_id, "runner", 1000), (uuid4(), "admin", 1000),
        (uuid4(), "owner", 4503), (trip.owner_id, "shop", 4503),
    ):  # fmt: skip
        token = server.token(user, role)
        client = await Client.join(server, trip.booking_id, token, replay=60)
        assert await client.closed() == code, role
    unknown = await Client.join(server, uuid4(), owner(server, trip), replay=60)
    assert await unknown.closed() == 4503


@pytest.mark.parametrize(
    "query",
    [
        {"replay": "0.1"}, {"replay": "61"}, {"replay": "fast"}, {"replay": ""},
        {"replay": "1", "order": "seq"}, {"replay": "1", "from": "noon"},
        {"replay": "1", "to": "noon"},
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_bad_query_is_a_bad_request(server: Server, query: dict[str, str]) -> None:
    trip = Trip()
    client = await Client.join(server, trip.booking_id, owner(server, trip), **query)
    assert await client.closed() == 4500


@pytest.mark.gen_test
async def test_a_message_that_is_none_is_a_bad_request(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1000)
    for bad in ({"type": "seek", "to": "noon"}, {"type": "speed", "speed": 0}, {"type": "stop"}):
        client = await replay(server, trip, 1)
        await client.next_of("location_update")
        await client.say(**bad)
        assert await client.closed() == 4500


def test_the_plain_stream_has_no_replay(server: Server, engine: sa.Engine) -> None:
    trip = stored(engine, 0)
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }  # fmt: skip
    path = f"/ws/tracking/{trip.booking_id}?replay=1"
    assert server.get(path, owner(server, trip), **headers)[0] == 400


@pytest.mark.gen_test
async def test_a_user_has_four_at_once(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1000)
    clients = [await replay(server, trip, 0.25) for _ in range(REPLAYS_PER_USER)]
    for client in clients:
        await client.next_of("location_update")
    assert server.metric("tracking_replays") >= REPLAYS_PER_USER
    assert await (await replay(server, trip)).closed() == 4504
    clients[0].socket.close()
    while (code := await (await replay(server, trip, from_=at(trip, 900))).closed()) == 4504:
        await asyncio.to_thread(server.get, "/health")  # let the server notice
    assert code == 1000
    for client in clients[1:]:
        client.socket.close()


@pytest.mark.gen_test
async def test_an_expired_route_is_not_shown(server: Server, engine: sa.Engine) -> None:
    trip = await asyncio.to_thread(stored, engine, 0, 1)
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE tracks SET route_expired_at = now() WHERE booking_id = %s", (trip.booking_id,)
        )
    assert await (await replay(server, trip)).closed() == 4503


class Shown:
    """A replay without a server."""

    def __init__(self, trip: StoredTrip, speed: float) -> None:
        stage: Stage = trip.stage()
        self.wire, self.seat = Wire(small=False), Seat(stage.services)
        self.services, state = stage.services, stage.state
        principal = stage.principal()
        slot: Slot = (principal.user_id, "")
        stage.services.replays.reserve(principal.user_id)
        assert state.track_id is not None
        assert state.epoch is not None
        part = Replayed(state.booking_id, state.track_id, state.epoch, state.head_seq, "recorded")
        admission = ReplayAdmission(principal, slot, state, part, ReplayOptions(speed))
        self.viewer = ReplayViewer(self.seat, admission, self.wire.send_queue)
        self.viewer.subscriber.begin()

    async def code(self) -> int | None:
        for _ in range(3000):
            if (code := self.seat.code()) is not None:
                return code
            await asyncio.sleep(0.01)
        return None


@pytest.fixture
def shown(io_loop: object, engine: sa.Engine) -> Iterator[Callable[..., Shown]]:
    made: list[Shown] = []

    def show(trip: StoredTrip, speed: float = 1) -> Shown:
        made.append(Shown(trip, speed))
        return made[-1]

    yield show
    for each in made:
        each.viewer.leave()
        each.wire.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tracks SET route_expired_at = now() WHERE booking_id = %s",
        "UPDATE bookings SET owner_id = gen_random_uuid() WHERE booking_id = %s",
    ],
)
@pytest.mark.gen_test
async def test_who_may_not_see_it_any_more_is_closed_while_it_runs(
    engine: sa.Engine,
    shown: Callable[..., Shown],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    monkeypatch.setattr(replaying, "CHECK_S", 0.05)
    trip = StoredTrip(engine)
    trip.store(0, 8)
    replay = shown(trip, 0.25)
    await replay.wire.messages(until=b'"location_update"')
    replay.viewer.received('{"type": "pause"}')
    with transaction(engine) as cursor:
        cursor.execute(change, (trip.booking_id,))
    assert await replay.code() == 4503
    assert len(replay.services.replays) == 0


@pytest.mark.gen_test
async def test_a_trip_that_is_erased_is_shown_no_longer(
    engine: sa.Engine, shown: Callable[..., Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "CHECK_S", 0.05)
    trip = StoredTrip(engine)
    trip.store(0, 8)
    over = START + timedelta(seconds=10)
    people = (trip.runner_id, trip.owner_id)
    store_batch(engine, [BookingEvent(trip.booking_id, "delivered", over, *people)])
    replay = shown(trip, 0.25)
    await replay.wire.messages(until=b'"location_update"')
    erase_booking(engine, trip.booking_id)
    assert await replay.code() == 4503


@pytest.mark.gen_test
async def test_a_replay_has_the_heartbeat_and_the_drain_of_other_sockets(
    engine: sa.Engine, shown: Callable[..., Shown]
) -> None:
    trip = StoredTrip(engine)
    trip.store(0, 8)
    replay = shown(trip, 0.25)
    await replay.wire.messages(until=b'"location_update"')
    replay.viewer.heard()
    begun = time.monotonic()
    replay.viewer.tick(begun)  # from now on nothing is sent
    replay.viewer.tick(begun + 16)
    assert [each["type"] for each in await replay.wire.messages(until=b"heartbeat")] == [
        "heartbeat"
    ]
    await close_all(replay.services.everybody)
    assert await replay.code() == 1001


@pytest.mark.gen_test
async def test_a_replay_ends_with_its_token(engine: sa.Engine, shown: Callable[..., Shown]) -> None:
    trip = StoredTrip(engine)
    trip.store(0, 8)
    replay = shown(trip, 0.25)
    await replay.wire.messages(until=b'"location_update"')
    replay.viewer.expires_at = time.monotonic()
    replay.viewer.tick(time.monotonic())
    assert await replay.code() == 4401
