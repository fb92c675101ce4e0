"""What a viewer's connection is made of, without a server: real sockets, a real database."""

import asyncio
import json
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import sqlalchemy as sa
from tornado.iostream import IOStream

from handlers.access_log import AccessLog
from handlers.grace import Grace
from handlers.limits import Limits
from handlers.link_viewers import LinkViewers
from handlers.openings import Openings
from handlers.services import Services
from handlers.websocket.catch_up import JoinOptions
from handlers.websocket.protocol_viewer import ProtocolViewer
from tracking.domain.access import Principal
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.trip_eta import Ends, Samples
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.broadcast import Broadcast
from tracking.live.etas import Etas
from tracking.live.fleet import Fleet
from tracking.live.protocol_subscriber import ProtocolSubscriber
from tracking.live.room import Room
from tracking.live.rooms import Rooms
from tracking.live.send_queue import SendQueue
from tracking.live.sender import send_each
from tracking.live.subscriber import Subscriber
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store.calls import REQUEST_TIMEOUT_S, StoreCalls
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.read.live import live_state
from tracking.tokens import tokens_of
from tracking.wire.close_codes import CloseCode
from tracking.wire.messages import Message, location_update

SECRET = "s" * 32
# A kernel takes at least so much for a socket that asks for little.
SMALL = 4096
AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)
NOW = datetime.now(UTC).replace(microsecond=0)
START = NOW - timedelta(hours=2)


class Wire:
    """A connection as the server has it, and its peer, which reads when it is told to."""

    def __init__(self, *, small: bool = True) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.socket()
            if small:
                self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            self.peer.connect(listener.getsockname())
            ours, _ = listener.accept()
        if small:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        self.peer.setblocking(False)
        self.stream = IOStream(ours)
        self.metrics = Metrics()
        self.send_queue = SendQueue(self.stream, self.metrics)
        self.read = bytearray()

    def close(self) -> None:
        self.peer.close()
        self.stream.close()

    def fill(self) -> None:
        """Until the socket takes no more."""
        while not self.stream.writing():
            self.send_queue.send(b"\x81\x7e\x04\x00" + b" " * 1024)

    async def frames(self, *, until: bytes = b"") -> list[bytes]:
        """The payloads that came since: all that was sent, or up to the one with these bytes."""
        payloads: list[bytes] = []
        deadline = time.monotonic() + 50
        while True:
            more = self._read_some()
            payloads += [each for each in parse(self.read) if each.strip()]
            is_there = any(until in each for each in payloads) if until else not self._waits()
            if more is None or (is_there and not more):
                return payloads
            assert time.monotonic() < deadline, f"still not: {until!r} after {payloads}"
            await asyncio.sleep(0 if more else 0.002)

    def _waits(self) -> bool:
        return self.send_queue.is_busy or bool(self.read)

    def _read_some(self) -> bool | None:
        """None at the end."""
        try:
            got = self.peer.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            return None
        self.read += got
        return True if got else None

    async def messages(self, *, until: bytes = b"") -> list[dict[str, Any]]:
        return [json.loads(each) for each in await self.frames(until=until) if each != b""]


def parse(data: bytearray) -> list[bytes]:
    """Takes whole unmasked frames from the front; their payloads."""
    return [payload for _, payload in parse_frames(data)]


def parse_frames(data: bytearray) -> list[tuple[int, bytes]]:
    """Takes whole unmasked frames from the front; opcode and payload."""
    frames = []
    while len(data) >= 2:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        if len(data) < start + size:
            break
        frames.append((data[0] & 0x0F, bytes(data[start : start + size])))
        del data[: start + size]
    return frames


@dataclass(frozen=True, kw_only=True)
class GatedServices(Services):
    """Answers only when it is let: what happens meanwhile, a test decides."""

    gate: asyncio.Event

    async def ask(self, function: Any, *arguments: object) -> Any:
        await self.gate.wait()
        return await super().ask(function, *arguments)


async def _no_samples(known: Samples) -> Samples:
    return known


async def _no_ends(_: Collection[UUID]) -> dict[UUID, Ends]:
    return {}


async def _ready() -> dict[str, str]:
    return {}


def services_of(engine: sa.Engine, gate: asyncio.Event, rooms: Rooms, metrics: Metrics) -> Services:
    settings = Settings(jwt_secret=SECRET)
    calls = StoreCalls(engine, "viewing", 2, REQUEST_TIMEOUT_S, metrics)
    return GatedServices(
        settings=settings, metrics=metrics, readiness=_ready, limits=Limits(settings, 10),
        requests=calls, reads=calls, transactions=calls, tokens=tokens_of(settings), rooms=rooms,
        fleet=Fleet(metrics),
        delay_s=lambda: 0.0, grace=Grace(0, lambda: 0.0), link_viewers=LinkViewers(),
        openings=Openings(), etas=Etas(rooms, _no_samples, _no_ends), gate=gate,
        access_log=AccessLog(metrics.accesses, is_kept=False),
    )  # fmt: skip


class Seat:
    """The handler of one viewer: remembers why it was closed."""

    request_id = "of a test"

    def __init__(self, services: Services) -> None:
        self.services = services
        self.closed: list[CloseCode] = []

    def send_close(self, code: CloseCode) -> None:
        self.closed.append(code)

    def code(self) -> int | None:
        return self.closed[0].code if self.closed else None


def deliver(subscriber: Subscriber, message: Message) -> None:
    """To one of a room, as the audience does it for all."""
    if not message.is_position:
        subscriber.accept_late(message)
        return
    descriptor = subscriber.accept(message)
    if descriptor is not None:
        for _, count in send_each([descriptor], message.frame):
            subscriber.send_queue.complete(message.frame, count)


class Told(Subscriber):
    """One without a socket, who may see everything: remembers the statuses."""

    def __init__(self, room: Room) -> None:
        anybody = Principal(uuid4(), "admin", NOW)
        super().__init__(room, Seat(Mock()), anybody, SendQueue(Mock(), Metrics()))
        self.told: list[dict[str, Any]] = []

    def tell(self, frame: bytes) -> None:
        self.told += map(json.loads, parse(bytearray(frame)))


class Stage:
    """One booking, its room and its broadcast; nobody sits yet."""

    def __init__(self, engine: sa.Engine, state: LiveState | None = None) -> None:
        self.state = state or active_state()
        self.booking_id = self.state.booking_id
        self.rooms, self.metrics, self.gate = Rooms(), Metrics(), asyncio.Event()
        self.gate.set()
        self.services = services_of(engine, self.gate, self.rooms, self.metrics)
        self.broadcast = Broadcast(self.rooms, self.metrics, send_each)
        self.room: Room | None = None

    async def enter(self) -> Room:
        async def read(_: UUID) -> LiveState:
            return self.state

        self.room = await self.rooms.enter(self.booking_id, read)
        assert self.room is not None
        return self.room

    def principal(self, role: str = "owner", lifetime_s: float = 900) -> Principal:
        user = self.state.owner_id if role == "owner" else self.state.runner_id
        assert user is not None
        return Principal(user, role, datetime.now(UTC) + timedelta(seconds=lifetime_s))

    def waypoint(self, seq: int, *, late: bool = False) -> StoredWaypoint:
        at = NOW + timedelta(seconds=seq)
        track_id, runner_id = self.state.track_id, self.state.runner_id
        assert track_id is not None
        assert runner_id is not None
        return StoredWaypoint(self.booking_id, track_id, seq, runner_id, 106.8, -6.2, 1.0, 2.0, at,
                              at, late)  # fmt: skip

    def publish(self, *seqs: int) -> None:
        """Positions, as the broadcast sends them."""
        assert self.room is not None
        for seq in seqs:
            self.room.moved(self.waypoint(seq))
            message = location_update(self.waypoint(seq))
            for each in self.room.audience.everybody():
                deliver(each, message)

    def change(self, status: str = "active", runner_id: UUID | None = None) -> TrackChange:
        """Told to everybody."""
        assert self.room is not None
        state = self.state
        assert state.track_id is not None
        assert state.runner_id is not None
        change = TrackChange(
            self.booking_id, state.track_id, state.status, state.phase, state.runner_id, status,
            "done" if status == "completed" else "to_pickup", runner_id or state.runner_id,
            state.owner_id, str(state.epoch), NOW, NOW if status == "completed" else None,
        )  # fmt: skip
        self.room.changed(change)
        self.room.tell(change)
        return change


class Joined:
    """A viewer of tracking.v1 on its stage."""

    def __init__(self, stage: Stage, wire: Wire, seat: Seat, viewer: ProtocolViewer) -> None:
        self.stage, self.wire, self.seat, self.viewer = stage, wire, seat, viewer

    @classmethod
    async def join(
        cls,
        stage: Stage,
        wire: Wire,
        options: JoinOptions | None = None,
        principal: Principal | None = None,
    ) -> "Joined":
        room = await stage.enter()
        seat, options = Seat(stage.services), options or JoinOptions()
        principal = principal or stage.principal()
        viewer = ProtocolViewer(seat, room, principal, wire.send_queue, options)
        stage.rooms.join(viewer.subscriber)
        viewer.subscriber.begin()
        return cls(stage, wire, seat, viewer)

    @property
    def subscriber(self) -> ProtocolSubscriber:
        return self.viewer.catch_up.subscriber

    def say(self, **message: object) -> None:
        self.viewer.received(json.dumps(message))

    async def settled(self) -> None:
        """Nothing is being caught up; what was to be sent has been handed to the socket."""
        for _ in range(2000):
            if self.viewer.catch_up.task is None:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("still catching up")


async def entered(rooms: Rooms, state: LiveState) -> Room:
    """A room whose state is read at once."""

    async def read(_: UUID) -> LiveState:
        return state

    room = await rooms.enter(state.booking_id, read)
    assert room is not None
    return room


def stored_waypoint(booking_id: UUID, seq: int, *, late: bool = False) -> StoredWaypoint:
    """Recorded and received `seq` seconds after AT."""
    at = AT + timedelta(seconds=seq)
    return StoredWaypoint(booking_id, uuid4(), seq, uuid4(), 106.8, -6.2, None, None, at, at, late)


class StoredTrip:
    """A trip in the database; more waypoints come when they are asked for."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine, self.count = engine, 0
        self.booking_id, self.runner_id, self.owner_id = uuid4(), uuid4(), uuid4()
        people = (self.runner_id, self.owner_id)
        store_batch(engine, [BookingEvent(self.booking_id, "accepted", START, *people)])

    def add(self, count: int) -> range:
        """A waypoint each second; their seqs."""
        first, self.count = self.count, self.count + count
        self.store(*range(first, self.count))
        return range(first + 1, self.count + 1)

    def store(self, *seconds: float) -> Stored:
        """A waypoint at each of these seconds of the trip."""
        times = [START + timedelta(seconds=second) for second in seconds]
        ids = (self.runner_id, self.booking_id)
        updates = [LocationUpdate(*ids, 106.8, -6.2, 1.0, 1.0, at, at, at) for at in times]
        return store_batch(self.engine, updates)

    def stage(self) -> Stage:
        state = live_state(self.engine, self.booking_id)
        assert state is not None
        return Stage(self.engine, state)


async def first_of(endless: "asyncio.Task[None]", event: asyncio.Event) -> None:
    """Run an endless task until an event comes; raises what the task died of before."""
    coming = asyncio.create_task(event.wait())
    await asyncio.wait({endless, coming}, return_when=asyncio.FIRST_COMPLETED)
    coming.cancel()
    if endless.done():
        endless.result()
    endless.cancel()


def active_state(head_seq: int = 0, booking_id: UUID | None = None) -> LiveState:
    return LiveState(booking_id or uuid4(), uuid4(), uuid4(), uuid4(), "epoch", "active",
                     "to_pickup", NOW, head_seq)  # fmt: skip


def seqs(messages: list[dict[str, Any]]) -> Iterator[int]:
    """Of every waypoint, in the order of arrival."""
    for message in messages:
        if message["type"] == "location_update":
            yield message["seq"]
        elif message["type"] == "backfill":
            yield from (point["seq"] for point in message["points"])
