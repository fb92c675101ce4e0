"""handlers.erasure_check: whoever looks at a booking is closed within a second of its erasure."""

import asyncio
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from handlers import erasure_check
from handlers.erasure_check import COMMIT_S, check_erasures
from tests.running import Platform, Server, Trip, running_server, stamp, wait_until
from tests.served import API, owner, stored_trip, track
from tests.sharing import SharedClient, ask, share, shared
from tests.test_protocol import Client
from tracking.errors import DatabaseUnavailable
from tracking.live.replays import Replays
from tracking.live.rooms import Rooms


@pytest.fixture(scope="module")
def other_process(
    database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Another one on the same database."""
    log: Path = tmp_path_factory.mktemp("other") / "server.log"
    with running_server(database, log) as server:
        yield server


def ended(server: Server, platform: Platform, waypoints: int = 2) -> Trip:
    trip = stored_trip(server, platform, waypoints)
    platform.deliver(trip, trip.at(60))
    wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    return trip


def erase(server: Server, trip: Trip, token: str) -> int:
    return refused(server, trip, token)[0]


def refused(server: Server, trip: Trip, token: str) -> tuple[int, str]:
    """The status and the error, if there is one."""
    status, answer = ask(server, "DELETE", f"{API}/{trip.booking_id}", None, token)
    return status, "" if status == 204 else answer["error"]


def requested(server: Server, platform: Platform) -> Trip:
    trip = Trip()
    at = stamp(trip.at(0))
    platform.send("booking.requested", **trip.identity(), occurred_at=at)
    path = f"{API}/{trip.booking_id}/shares"
    wait_until(lambda: server.get(path, owner(server, trip))[0] == 200, "the request is stored")
    return trip


def test_who_may_erase_a_trip_and_when(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform)
    admin, stranger = server.token(uuid4(), "admin"), server.token(uuid4(), "owner")
    runner = server.token(trip.runner_id, "runner")
    assert erase(server, trip, owner(server, trip)) == 409
    assert erase(server, trip, admin) == 409
    platform.deliver(trip, trip.at(60))
    wait_until(lambda: track(server, trip)["status"] == "completed", "the end")
    assert [erase(server, trip, token) for token in (runner, stranger)] == [404, 404]
    assert erase(server, trip, owner(server, trip)) == 204
    assert [erase(server, trip, token) for token in (owner(server, trip), admin)] == [404, 404]
    before = requested(server, platform)
    status, why = refused(server, before, owner(server, before))  # it may begin any moment
    assert (status, "may still begin" in why) == (409, True)
    assert erase(server, before, admin) == 204


def test_an_owner_erases_a_booking_that_was_cancelled_before_anybody_accepted_it(
    server: Server, platform: Platform
) -> None:
    trip = requested(server, platform)
    token = owner(server, trip)
    assert erase(server, trip, token) == 409
    platform.send("booking.cancelled", **trip.identity(), occurred_at=stamp(trip.at(1)))
    wait_until(lambda: erase(server, trip, token) == 204, "the cancellation is stored")
    assert erase(server, trip, token) == 404


def test_nothing_of_an_erased_trip_is_answered(server: Server, platform: Platform) -> None:
    trip = ended(server, platform)
    token, admin = owner(server, trip), server.token(uuid4(), "admin")
    link = share(server, trip)["share_token"]
    assert shared(server, link)[0] == 200
    assert erase(server, trip, token) == 204
    assert shared(server, link)[0] == 404
    for path in ("", "/route", "/summary", "/export.csv", "/shares"):
        for who in (token, admin):
            assert server.get(f"{API}/{trip.booking_id}{path}", who)[0] == 404, path
    assert server.get(f"/api/v1/ops/trips/{trip.booking_id}", admin)[0] == 404
    platform.update(trip, 70)
    platform.accept(trip)
    platform.deliver(trip, trip.at(60))
    wait_until(
        lambda: server.metric(
            "tracking_events_total", type="booking.delivery_confirmed", outcome="erased"
        ),
        "refused",
    )
    assert server.get(f"{API}/{trip.booking_id}", admin)[0] == 404


@pytest.mark.gen_test
async def test_sockets_of_every_process_are_closed_within_a_second(
    server: Server, other_process: Server, platform: Platform
) -> None:
    took = []
    for _ in range(3):
        trip = await asyncio.to_thread(ended, server, platform)
        plain = await server.watch(trip.booking_id, owner(server, trip))
        replay = await Client.join(server, trip.booking_id, owner(server, trip), replay=1)
        await replay.next_of("welcome")
        await replay.say(type="pause")  # or it would be over
        await replay.next_of("replay")
        assert await asyncio.to_thread(erase, other_process, trip, owner(server, trip)) == 204
        erased_at = time.monotonic()
        assert await replay.closed() == 4503
        while await plain.read_message() is not None:
            pass
        plain.close()
        assert plain.close_code == 4503
        took.append(time.monotonic() - erased_at)
        again = await Client.join(server, trip.booking_id, owner(server, trip))
        assert (await again.closed(), again.told) == (4503, [])
    assert sorted(took)[1] < 1.0


@pytest.mark.gen_test
async def test_whoever_waits_for_a_booking_to_be_accepted_is_closed_too(
    server: Server, other_process: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(requested, server, platform)
    client = await Client.join(server, trip.booking_id, owner(server, trip))
    await client.next_of("welcome")
    link = await asyncio.to_thread(share, server, trip)
    viewer = await SharedClient.look(server, link["share_token"])
    await viewer.next_of("welcome")
    admin = server.token(uuid4(), "admin")
    assert await asyncio.to_thread(erase, other_process, trip, admin) == 204
    assert await client.closed() == 4503
    assert await viewer.closed() == 4503


class Erasing:
    """The database, as the check sees it."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.is_away = False

    async def ask(self, seconds: float) -> Collection[UUID]:
        self.asked.put_nowait(seconds)
        if self.is_away:
            raise DatabaseUnavailable("away")
        return []

    async def times(self, number: int) -> list[float]:
        return [await self.asked.get() for _ in range(number)]


@pytest.mark.gen_test
async def test_what_was_erased_during_an_outage_is_asked_for_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(erasure_check, "CHECK_S", 0.01)
    monkeypatch.setattr(erasure_check, "PAUSE_S", 0.01)
    database = Erasing()
    checking = asyncio.create_task(check_erasures(Rooms(), Replays(), database.ask))
    await database.times(3)
    began = time.monotonic()
    database.is_away = True
    await database.times(20)
    database.is_away = False
    behind = await database.times(3)
    outage = time.monotonic() - began
    checking.cancel()
    assert COMMIT_S + 0.1 < max(behind) < COMMIT_S + outage + 1.0
    assert behind[2] < max(behind)  # what is known is not asked for again
