"""handlers.access_log and tracking.store.accesses: who read what is known, and only added to."""

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from handlers import access_log
from handlers.access_log import AccessLog
from tests.running import Platform, Server, Trip, running_server, wait_until
from tests.served import API, owner, stored_trip, track
from tests.sharing import SharedClient, share, shared
from tests.test_erasure import HOUR_AGO, dump, ended, erase_runner
from tests.test_fleet import Client as FleetClient
from tests.test_protocol import Client
from tests.test_store_ingest import accepted
from tracking.domain.access import Principal
from tracking.domain.accesses import Access, Reader
from tracking.errors import DatabaseUnavailable
from tracking.metrics import Metrics
from tracking.settings import Settings
from tracking.store import accesses
from tracking.store.erasing.bookings import erase_booking
from tracking.store.ingest.batch import store_batch
from workers import maintenance
from workers.maintenance import Maintenance

NOON = datetime(2026, 2, 6, 12, tzinfo=UTC)


class Noting:
    """A log with a clock and a table of its own."""

    def __init__(self) -> None:
        self.now = NOON
        self.metrics = Metrics()
        self.log = AccessLog(self.metrics.accesses, is_kept=True, clock=lambda: self.now)
        self.rows: list[Access] = []
        self.is_away = False

    async def write(self, rows: Sequence[Access]) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        self.rows += rows

    def note(self, booking_id: UUID, user: Principal) -> None:
        self.log.note(user, booking_id, "rest")

    def flush(self) -> None:
        while rows := self.log.due(self.now):
            self.rows += rows
            self.log.written(len(rows))

    def lost(self) -> float:
        return self.metrics.registry.get_sample_value("tracking_accesses_lost_total") or 0


def reader(role: str = "owner") -> Principal:
    return Principal(uuid4(), role, NOON + timedelta(days=9))


def test_who_asks_every_five_seconds_makes_two_rows_an_hour_and_none_is_uncounted() -> None:
    noting, booking_id, user = Noting(), uuid4(), reader()
    asked = 24 * 720
    for _ in range(asked):
        noting.note(booking_id, user)
        noting.flush()
        noting.now += timedelta(seconds=5)
    noting.now += timedelta(hours=1)
    noting.flush()
    assert len(noting.rows) == 48
    assert sum(row.count for row in noting.rows) == asked
    assert {row.reader for row in noting.rows} == {
        Reader(booking_id, user.user_id, "owner", "rest")
    }
    for row in noting.rows:
        assert row.first_at <= row.last_at < row.first_at + timedelta(hours=1)
        assert row.first_at.hour == row.last_at.hour
    times = sorted((row.first_at, row.last_at) for row in noting.rows)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(times))
    noting.now += timedelta(hours=1)
    noting.flush()
    assert not noting.log._noted  # memory follows those who read


def test_whoever_is_seen_first_is_written_at_once_and_each_way_on_its_own() -> None:
    noting, booking_id, user = Noting(), uuid4(), reader()
    for way in ("rest", "export", "rest"):
        noting.log.note(user, booking_id, way)
    noting.log.note_link(user.user_id, booking_id, "rest")
    noting.flush()
    assert [(row.reader.role, row.reader.way, row.count) for row in noting.rows] == [
        ("owner", "rest", 2), ("owner", "export", 1), ("link", "rest", 1),
    ]  # fmt: skip


def test_what_is_above_the_bound_is_counted_and_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST_READERS", 3)
    noting = Noting()
    for _ in range(5):
        noting.note(uuid4(), reader())
    noting.flush()
    assert (len(noting.rows), noting.lost()) == (3, 2)


@pytest.mark.gen_test
async def test_an_outage_of_the_database_loses_nothing_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access_log, "WRITE_S", 0.01)
    monkeypatch.setattr(access_log, "BATCH", 2)
    noting = Noting()
    noting.is_away = True
    failed = asyncio.Event()

    async def write(rows: Sequence[Access]) -> None:
        failed.set()
        await noting.write(rows)

    writing = asyncio.create_task(noting.log.keep_writing(write))
    for _ in range(5):
        noting.note(uuid4(), reader())
    await failed.wait()
    assert not noting.rows
    noting.is_away = False
    noting.note(uuid4(), reader())
    while len(noting.rows) < 6:
        failed.clear()
        await failed.wait()
    writing.cancel()
    assert noting.lost() == 0
    noting.is_away = True
    noting.note(uuid4(), reader())
    await noting.log.close(noting.write)
    assert noting.lost() == 1


@pytest.mark.gen_test
async def test_what_is_being_written_when_the_process_stops_is_written_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread that writes ends what it has begun, whoever waits for it."""
    monkeypatch.setattr(access_log, "WRITE_S", 0.01)
    noting, begun, may_end = Noting(), asyncio.Event(), asyncio.Event()

    async def write(rows: Sequence[Access]) -> None:
        async def in_its_thread() -> None:
            begun.set()
            await may_end.wait()
            await noting.write(rows)

        await asyncio.shield(asyncio.create_task(in_its_thread()))

    noting.note(uuid4(), reader())
    writing = asyncio.create_task(noting.log.keep_writing(write))
    await begun.wait()
    noting.note(uuid4(), reader())
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    closing = asyncio.create_task(noting.log.close(noting.write))
    may_end.set()
    await closing
    readers = [row.reader for row in noting.rows]
    assert (len(readers), len(set(readers))) == (2, 2)


def test_the_turn_of_the_hour_holds_nobody_up() -> None:
    """20,000 readers, of whom half have read more than once: a slice at a time, none is lost."""
    noting = Noting()
    readers = [(uuid4(), reader()) for _ in range(20_000)]
    for who in readers:
        noting.note(*who)
    noting.flush()
    for who in readers[::2]:
        noting.note(*who)
    noting.now += timedelta(hours=1)
    most, asked = 0, 30_000
    while noting.log._past or noting.log._hour != noting.now:
        noting.note(*readers[0])
        found = noting.log.due(noting.now)
        most = max(most, len(noting.log._ended))
        noting.log.written(len(found))
        noting.rows += found
        asked += 1
    noting.flush()
    noting.rows += noting.log.all()
    assert sum(row.count for row in noting.rows) == asked
    assert len(noting.log._noted) == 1
    assert most <= access_log.BATCH  # rows that one call made: 0.6 ms of CPU


def test_who_watches_the_fleet_is_noted_from_when_to_when() -> None:
    noting, admin = Noting(), reader("admin")
    noting.now += timedelta(minutes=5)
    assert noting.log.note_watch(admin, NOON) == noting.now
    noting.flush()
    fleet = Reader(None, admin.user_id, "admin", "fleet")
    assert noting.rows == [Access(fleet, NOON, noting.now, 1)]
    not_kept = AccessLog(noting.metrics.accesses, is_kept=False)
    not_kept.note_watch(admin, NOON)
    assert not_kept.all() == []


def rows(engine: sa.Engine, trip: Trip) -> list[accesses.ListedAccess]:
    return accesses.of_booking(engine, trip.booking_id)


def access(booking_id: UUID | None, user: UUID | None = None, at: datetime | None = None) -> Access:
    at = at or datetime.now(UTC)
    return Access(Reader(booking_id, user or uuid4(), "admin", "rest"), at, at, 1)


@pytest.mark.parametrize(
    "statement", ["UPDATE accesses SET count = 0", "DELETE FROM accesses", "TRUNCATE accesses"]
)
def test_the_log_is_only_added_to(own_engine: sa.Engine, statement: str) -> None:
    trip = ended(own_engine)
    accesses.add(own_engine, [access(trip.booking_id), access(None), access(uuid4())])
    before = dump(own_engine)
    with (
        own_engine.connect() as connection,
        pytest.raises(sa.exc.DBAPIError, match="only added to"),
    ):
        connection.execute(sa.text(statement))
    assert dump(own_engine) == before
    assert len(rows(own_engine, trip)) == 1


def test_the_log_goes_with_its_booking_and_does_not_come_back(own_engine: sa.Engine) -> None:
    trip, other = ended(own_engine), ended(own_engine)
    user = uuid4()
    accesses.add(own_engine, [access(trip.booking_id, user), access(other.booking_id)])
    assert erase_booking(own_engine, trip.booking_id).rows["accesses"] == 1
    accesses.add(own_engine, [access(trip.booking_id, user), access(other.booking_id)])
    assert str(user) not in dump(own_engine)
    assert len(rows(own_engine, other)) == 2


def test_an_erased_runner_is_nobody_in_the_log(own_engine: sa.Engine) -> None:
    trip = ended(own_engine)
    accesses.add(own_engine, [access(trip.booking_id, trip.runner_id), access(trip.booking_id)])
    erase_runner(own_engine, trip.runner_id)
    accesses.add(own_engine, [access(trip.booking_id, trip.runner_id, NOON)])
    assert str(trip.runner_id) not in dump(own_engine)
    assert len(rows(own_engine, trip)) == 2


def test_the_log_has_a_retention_of_its_own(own_engine: sa.Engine) -> None:
    trip = ended(own_engine)
    old = datetime.now(UTC) - timedelta(days=400)
    accesses.add(own_engine, [access(trip.booking_id, at=old), access(trip.booking_id)])
    before = datetime.now(UTC) - timedelta(days=365)
    assert accesses.delete_before(own_engine, before, 10) == 1
    assert len(rows(own_engine, trip)) == 1


@pytest.mark.gen_test
async def test_many_old_rows_go_in_steps_and_over_rounds(
    own_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a shorter time was set, or none: ACCESS_LOG_DAYS=0 keeps no row."""
    monkeypatch.setattr(maintenance, "ACCESSES_AT_ONCE", 3)
    monkeypatch.setattr(maintenance, "ACCESSES_STEPS", 2)
    trip = ended(own_engine)
    now = datetime.now(UTC)
    accesses.add(
        own_engine,
        [access(trip.booking_id, at=now - timedelta(days=days)) for days in range(10, 0, -1)],
    )
    settings = Settings.from_environment({"JWT_SECRET": "x" * 32, "ACCESS_LOG_DAYS": "0"})
    with ThreadPoolExecutor(1) as executor:
        tasks = Maintenance(
            own_engine, executor, Metrics(), lambda _: None, lambda: 0.0, lambda: 0.0,
            keep_accesses=settings.keep_accesses,
        )  # fmt: skip
        left = []
        for _ in range(3):
            await tasks._delete_closed_shares()
            left.append([row.first_at for row in rows(own_engine, trip)])
    assert [len(each) for each in left] == [4, 0, 0]
    assert min(left[0]) > now - timedelta(days=5)  # the oldest go first


def test_of_a_fleet_the_owner_is_told_the_part_that_is_of_his_trip(own_engine: sa.Engine) -> None:
    """It lasted from HOUR_AGO for 100 s; the watches by their seconds after that."""
    trip, admin = ended(own_engine), uuid4()
    watches = [(-300, -1), (-200, 20), (20, 60), (90, 300), (101, 400), (3500, 3600)]
    watched = [
        Access(Reader(None, admin, "admin", "fleet"), trip.at(first), trip.at(last), 1)
        for first, last in watches
    ]
    accesses.add(own_engine, [*watched, access(ended(own_engine).booking_id)])
    found = rows(own_engine, trip)
    assert {(each.reader_id, each.role, each.way) for each in found} == {(admin, "admin", "fleet")}
    assert sum(each.count for each in found) == 3
    assert min(each.first_at for each in found) == HOUR_AGO
    assert max(each.last_at for each in found) == trip.at(100)
    lasts = Trip(HOUR_AGO - timedelta(minutes=9))
    store_batch(own_engine, [accepted(lasts)])
    assert sum(each.count for each in rows(own_engine, lasts)) == 6
    assert rows(own_engine, Trip()) == []


def listed(server: Server, trip: Trip, token: str | None = None) -> list[dict[str, Any]]:
    path = f"{API}/{trip.booking_id}/accesses"
    status, body, _ = server.get(path, token or owner(server, trip))
    assert status == 200, body
    found: list[dict[str, Any]] = body["data"]["accesses"]
    return found


@pytest.mark.gen_test
async def test_the_owner_sees_who_read_his_trip_how_and_when(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    admin_id, token = uuid4(), owner(server, trip)
    admin = server.token(admin_id, "admin")
    link = await asyncio.to_thread(share, server, trip)
    paths = ("", "/route", "/summary", "/export.csv")
    for path in paths:
        assert (await asyncio.to_thread(server.get, f"{API}/{trip.booking_id}{path}", admin))[
            0
        ] == 200
    ops = f"/api/v1/ops/trips/{trip.booking_id}"
    assert (await asyncio.to_thread(server.get, ops, admin))[0] == 200
    assert (await asyncio.to_thread(shared, server, link["share_token"]))[0] == 200
    live = await Client.join(server, trip.booking_id, token)
    replay = await Client.join(server, trip.booking_id, server.token(trip.runner_id, "runner"),
                               replay=60)  # fmt: skip
    viewer = await SharedClient.look(server, link["share_token"])
    for each in (live, replay, viewer):
        await each.next_of("welcome")
        each.socket.close()
    expected = {
        (str(admin_id), "admin", "rest", 3), (str(admin_id), "admin", "export", 1),
        (str(admin_id), "admin", "ops", 1), (str(trip.owner_id), "owner", "socket", 1),
        (str(trip.runner_id), "runner", "replay", 1), (link["id"], "link", "rest", 1),
        (link["id"], "link", "socket", 1),
    }  # fmt: skip

    def found() -> bool:
        seen = {(a["reader"], a["role"], a["way"], a["count"]) for a in listed(server, trip, admin)}
        return expected <= seen

    await asyncio.to_thread(wait_until, found, "all of them")
    for who in (server.token(trip.runner_id, "runner"), server.token(uuid4(), "owner")):
        path = f"{API}/{trip.booking_id}/accesses"
        assert (await asyncio.to_thread(server.get, path, who))[0] == 404
    text = dump(engine)
    for secret in (token, admin, link["share_token"]):
        assert secret not in text


@pytest.mark.gen_test
async def test_the_owner_sees_who_watched_the_fleet_while_his_trip_lasted(
    server: Server, platform: Platform
) -> None:
    trip = await asyncio.to_thread(stored_trip, server, platform)
    admin_id = uuid4()
    watch = await FleetClient.join(server, server.token(admin_id, "admin"))

    def seen() -> dict[str, Any]:
        found = listed(server, trip)
        return next((each for each in found if each["reader"] == str(admin_id)), {})

    first = await asyncio.to_thread(wait_until, seen, "that he joined")
    assert (first["role"], first["way"], first["count"]) == ("admin", "fleet", 1)
    watch.cut()
    await asyncio.to_thread(wait_until, lambda: seen()["count"] == 2, "that he went")
    over = await asyncio.to_thread(stored_trip, server, platform)
    platform.deliver(over, over.at(60))
    await asyncio.to_thread(
        wait_until, lambda: track(server, over)["status"] == "completed", "the end"
    )
    assert all(each["way"] != "fleet" for each in listed(server, over))


def test_what_was_read_last_is_written_when_the_server_stops(
    database: dict[str, str], engine: sa.Engine, tmp_path: Path
) -> None:
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = stored_trip(server, platform)
        platform.close()
        admin_id = uuid4()
        path = f"{API}/{trip.booking_id}"
        assert server.get(path, server.token(admin_id, "admin"))[0] == 200
    assert admin_id in {each.reader_id for each in rows(engine, trip)}


def test_no_log_is_kept_where_none_is_wanted(
    database: dict[str, str], engine: sa.Engine, tmp_path: Path
) -> None:
    with running_server(database, tmp_path / "log", ACCESS_LOG_DAYS="0") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = stored_trip(server, platform)
        platform.close()
    # What others have watched the fleet with logs theirs.
    assert [each for each in rows(engine, trip) if each.way != "fleet"] == []
