"""handlers.websocket.viewers on real sockets: the plain stream, and when a connection ends."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from unittest.mock import Mock
from uuid import uuid4

import pytest
import sqlalchemy as sa
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import websocket_connect

from dev.tokens import access_token
from handlers import routes
from handlers.websocket.viewers import PING_S, QUIET_AFTER_END_S, PlainViewer
from tests.viewing import SECRET, Seat, Stage, StoredTrip, Wire, deliver, services_of
from tracking.domain.access import Principal
from tracking.live.rooms import Rooms
from tracking.live.unsent_frames import SLOW_LIMIT_S
from tracking.metrics import Metrics
from tracking.wire.protocol import late_waypoints

TICK_S = 1.0


class Plain:
    """A viewer of the plain stream on its stage."""

    def __init__(self, stage: Stage, wire: Wire, seat: Seat, viewer: PlainViewer) -> None:
        self.stage, self.wire, self.seat, self.viewer = stage, wire, seat, viewer

    @classmethod
    async def join(cls, stage: Stage, wire: Wire, principal: Principal | None = None) -> "Plain":
        room = await stage.enter()
        seat = Seat(stage.services)
        viewer = PlainViewer(seat, room, principal or stage.principal(), wire.send_queue)
        stage.rooms.join(viewer.subscriber)
        viewer.subscriber.begin()
        return cls(stage, wire, seat, viewer)

    def tick_until_closed(self, answers: Callable[[float], bool] = lambda _: False) -> float:
        """A second at a time; how long it took. `answers`: whether the peer is heard then."""
        start = time.monotonic()
        for second in range(1000):
            now = start + second * TICK_S
            if answers(now):
                self.viewer._heard_at = now
            before = self.wire.send_queue.last_sent
            self.viewer.tick(now)
            if self.wire.send_queue.last_sent != before:
                self.wire.send_queue.last_sent = now  # the clock of this test
            if self.seat.closed:
                return now - start
        raise AssertionError("never closed")


@pytest.fixture
def wire(io_loop: object) -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def stage(io_loop: object, engine: sa.Engine) -> Stage:
    return Stage(engine)


@pytest.mark.gen_test
async def test_the_first_frame_is_the_last_position_and_each_is_newer(
    stage: Stage, wire: Wire
) -> None:
    stage.state.last, stage.state.head_seq = stage.waypoint(3), 4
    plain = await Plain.join(stage, wire)
    stage.publish(2, 3, 5, 5, 4, 6)
    assert [each["seq"] for each in await wire.messages()] == [3, 5, 6]
    deliver(plain.viewer.subscriber, late_waypoints([stage.waypoint(7, late=True)]))
    stage.change("completed")
    assert await wire.messages() == []
    assert plain.seat.code() is None


@pytest.mark.gen_test
async def test_a_dead_peer_is_gone_within_45_seconds(stage: Stage, wire: Wire) -> None:
    plain = await Plain.join(stage, wire)
    took = plain.tick_until_closed()
    assert 2 * PING_S - 1 <= took <= 45
    assert plain.seat.code() == 4408
    assert stage.rooms.subscribers == 0
    assert wire.stream.closed()


@pytest.mark.gen_test
async def test_a_peer_that_answers_stays(stage: Stage, wire: Wire) -> None:
    plain = await Plain.join(stage, wire)
    took = plain.tick_until_closed(lambda now: True)
    assert plain.seat.code() == 4401
    assert 895 < took < 905


@pytest.mark.gen_test
async def test_the_stream_goes_after_ten_quiet_minutes_in_spite_of_pings(
    stage: Stage, wire: Wire
) -> None:
    plain = await Plain.join(stage, wire, stage.principal(lifetime_s=5000))
    stage.change("completed")
    took = plain.tick_until_closed(lambda now: True)
    assert (plain.seat.code(), abs(took - QUIET_AFTER_END_S) < 5) == (1000, True)


@pytest.mark.gen_test
async def test_a_trip_that_runs_is_never_quiet(stage: Stage, wire: Wire) -> None:
    plain = await Plain.join(stage, wire, stage.principal(lifetime_s=900))
    plain.tick_until_closed(lambda now: True)
    assert plain.seat.code() == 4401


@pytest.mark.gen_test
async def test_a_slow_viewer_goes_after_five_seconds_though_nothing_more_is_published(
    stage: Stage, wire: Wire
) -> None:
    plain = await Plain.join(stage, wire)
    wire.fill()
    stage.publish(*range(1, 50))
    now = time.monotonic()
    plain.viewer.tick(now + SLOW_LIMIT_S - 1)
    assert plain.seat.code() is None
    plain.viewer.tick(now + SLOW_LIMIT_S + 1)
    assert plain.seat.code() == 4008
    assert (stage.rooms.subscribers, wire.stream.closed()) == (0, True)


@pytest.mark.gen_test
async def test_one_slow_viewer_costs_the_others_nothing(stage: Stage, wire: Wire) -> None:
    await Plain.join(stage, wire)
    wire.fill()
    other = Wire(small=False)
    await Plain.join(stage, other)
    stage.publish(*range(1, 200))
    assert [each["seq"] for each in await other.messages()] == list(range(1, 200))
    other.close()


@pytest.mark.gen_test
async def test_whoever_may_not_watch_any_more_is_told_nothing_more(
    stage: Stage, wire: Wire
) -> None:
    runner = await Plain.join(stage, wire, stage.principal("runner"))
    other = Wire(small=False)
    owner = await Plain.join(stage, other)
    stage.change(runner_id=uuid4())
    stage.publish(1)
    assert (runner.seat.code(), owner.seat.code()) == (4503, None)
    assert [each["seq"] for each in await other.messages()] == [1]
    assert await wire.messages() == []
    other.close()


@pytest.mark.gen_test
async def test_a_frame_does_not_wait_until_the_one_before_is_acknowledged(
    engine: sa.Engine,
) -> None:
    """Tornado leaves Nagle's algorithm on behind its answer to the handshake."""
    trip, gate = StoredTrip(engine), asyncio.Event()
    trip.add(1)
    gate.set()
    services = services_of(engine, gate, Rooms(), Metrics())
    server = HTTPServer(Application(routes(), services=services))
    listening, port = bind_unused_port()
    server.add_socket(listening)
    token = access_token(SECRET, trip.owner_id, "owner")
    address = f"ws://127.0.0.1:{port}/ws/tracking/{trip.booking_id}?token={token}"
    client = await websocket_connect(address)
    assert await client.read_message() is not None
    (subscriber,) = services.rooms.everybody()
    assert subscriber.send_queue._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    client.close()
    await server.close_all_connections()
    server.stop()


@pytest.mark.gen_test
async def test_an_error_in_a_message_closes_the_viewer_who_sent_it(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip, gate = StoredTrip(engine), asyncio.Event()
    trip.add(1)
    gate.set()
    services = services_of(engine, gate, Rooms(), Metrics())
    server = HTTPServer(Application(routes(), services=services))
    listening, port = bind_unused_port()
    server.add_socket(listening)
    token = access_token(SECRET, trip.owner_id, "owner")
    address = f"ws://127.0.0.1:{port}/ws/tracking/{trip.booking_id}?token={token}"
    client, other = [await websocket_connect(address) for _ in range(2)]
    for each in (client, other):
        assert await each.read_message() is not None
    monkeypatch.setattr(PlainViewer, "received", Mock(side_effect=ZeroDivisionError))
    await client.write_message("anything")
    assert await client.read_message() is None
    assert (client.close_code, services.rooms.subscribers) == (1011, 1)
    assert services.metrics.live_errors.labels("viewer")._value.get() == 1
    for each in (client, other):
        each.close()
    assert await other.read_message() is None
    await server.close_all_connections()
    server.stop()
