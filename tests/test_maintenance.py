"""workers.maintenance: what time alone decides, and when time may decide it."""

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from kafka.errors import KafkaConnectionError

from tests.running import Trip
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.verdicts import Rule
from tracking.errors import DatabaseUnavailable
from tracking.metrics import Metrics
from tracking.store.erasing.bookings import erase_booking
from tracking.store.ingest import parking
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks
from tracking.store.statements import transaction
from workers import maintenance
from workers.kafka.batches import Batch
from workers.maintenance import Maintenance


class Upkeep:
    """Maintenance of one database, what it offered, and what it is told of Kafka."""

    def __init__(self, engine: sa.Engine, executor: ThreadPoolExecutor) -> None:
        self.offered: list[Batch] = []
        self.metrics = Metrics()
        self.delay_s = 0.0
        self.ask: Callable[[], float] = lambda: 0.0  # what asking Kafka does, and what it gives
        self.tasks = Maintenance(
            engine, executor, self.metrics, self.offered.append, self._delay_s, self._unread_s
        )

    def _delay_s(self) -> float:
        return self.delay_s

    def _unread_s(self) -> float:
        return self.ask()

    def ended(self) -> list[tuple[UUID, str]]:
        events: list[Any] = [event for batch in self.offered for event in batch.events]
        return [(event.booking_id, event.kind) for event in events]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def upkeep(own_engine: sa.Engine) -> Iterator[Upkeep]:
    with ThreadPoolExecutor(1) as executor:
        yield Upkeep(own_engine, executor)


def a_day_later(engine: sa.Engine, trip: Trip) -> None:
    with transaction(engine) as cursor:
        for table, column in (("tracks", "updated_at"), ("parked_updates", "parked_at")):
            cursor.execute(
                f"UPDATE {table} SET {column} = now() - interval '25 hours' WHERE runner_id = %s",
                (trip.runner_id,),
            )


def silent_for_a_day(engine: sa.Engine) -> Trip:
    """A trip that nobody ended, and an update that nobody claimed."""
    trip, unknown = Trip(), Trip()
    unknown.runner_id = trip.runner_id
    store_batch(engine, [accepted(trip), update(trip, 1), update(unknown, 1)])
    a_day_later(engine, trip)
    return trip


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("delay_s", "unread_s"),
    [(math.inf, 0.0), (86_400.0, 0.0), (0.0, math.inf), (0.0, 3_600.0), (0.0, 0.0)],
    ids=["unknown", "behind", "open transaction", "another member is behind", "all is stored"],
)
async def test_nothing_expires_while_what_happened_lies_unread_in_kafka(
    own_engine: sa.Engine, upkeep: Upkeep, delay_s: float, unread_s: float
) -> None:
    trip = silent_for_a_day(own_engine)
    upkeep.delay_s, upkeep.ask = delay_s, lambda: unread_s
    await upkeep.tasks._expire()
    refused = upkeep.sample("tracking_parked_updates_refused_total")
    if delay_s or unread_s:
        assert (upkeep.ended(), refused) == ([], 0)
    else:
        assert (upkeep.ended(), refused) == ([(trip.booking_id, "abandoned")], 1)


@pytest.mark.gen_test
async def test_nothing_expires_if_the_delay_grows_while_kafka_is_asked(
    own_engine: sa.Engine, upkeep: Upkeep
) -> None:
    silent_for_a_day(own_engine)

    def ask() -> float:
        upkeep.delay_s = 3_600.0
        return 0.0

    upkeep.ask = ask
    await upkeep.tasks._expire()
    assert upkeep.ended() == []


@pytest.mark.gen_test
async def test_what_is_stored_while_kafka_is_asked_is_seen(
    own_engine: sa.Engine, upkeep: Upkeep
) -> None:
    trip = silent_for_a_day(own_engine)

    def ask() -> float:
        store_batch(own_engine, [update(trip, 2)])
        return 0.0

    upkeep.ask = ask
    await upkeep.tasks._expire()
    assert upkeep.ended() == []


@pytest.mark.gen_test
async def test_routes_go_once_an_hour_as_soon_as_nothing_lies_unread(upkeep: Upkeep) -> None:
    rounds = []

    async def retention() -> None:
        rounds.append(upkeep.ask())
        if len(rounds) == 1:
            raise OSError

    upkeep.tasks._retention = retention
    upkeep.ask = lambda: 3_600.0
    assert await upkeep.tasks._attempt("retention", upkeep.tasks._retain)
    upkeep.ask = lambda: 0.0
    attempts = [await upkeep.tasks._attempt("retention", upkeep.tasks._retain) for _ in range(3)]
    assert (attempts, rounds) == ([False, True, True], [0.0, 0.0])


@pytest.mark.gen_test
async def test_kafka_is_asked_only_when_something_is_due(
    own_engine: sa.Engine, upkeep: Upkeep
) -> None:
    store_batch(own_engine, [accepted(Trip()), update(Trip(), 1)])

    def ask() -> float:
        raise AssertionError

    upkeep.ask = ask
    await upkeep.tasks._expire()


@pytest.mark.gen_test
async def test_an_error_is_counted_each_time_and_said_once_until_it_works_again(
    upkeep: Upkeep, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tracking.maintenance")
    errors: list[Exception] = [
        KafkaConnectionError("node 1"), KafkaConnectionError("node 2"), TypeError("a bug"),
        DatabaseUnavailable("away"),
    ]  # fmt: skip

    async def work() -> None:
        if errors:
            raise errors.pop(0)

    for succeeded in (False, False, False, False, True, True):
        assert await upkeep.tasks._attempt("expire", work) is succeeded
    assert [record.getMessage() for record in caplog.records] == [
        "maintenance fails, trying on: expire: KafkaConnectionError",
        "maintenance fails, trying on: expire: TypeError",
        "maintenance fails, trying on: expire: DatabaseUnavailable",
        "maintenance works again: expire",
    ]
    assert upkeep.sample("tracking_maintenance_errors_total", task="expire") == 4
    assert caplog.records[1].exc_info
    assert not caplog.records[2].exc_info


@pytest.mark.gen_test
async def test_a_task_of_the_database_fails_and_the_others_go_on(
    own_engine: sa.Engine, upkeep: Upkeep
) -> None:
    with transaction(own_engine) as cursor:
        cursor.execute("ALTER TABLE share_links RENAME TO elsewhere")
    assert not await upkeep.tasks._attempt("shares", upkeep.tasks._delete_closed_shares)
    assert await upkeep.tasks._attempt("adopt", upkeep.tasks._adopt)
    assert upkeep.sample("tracking_maintenance_errors_total", task="shares") == 1


@pytest.mark.gen_test
async def test_a_route_that_cannot_be_added_up_holds_up_no_other(
    own_engine: sa.Engine, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Trip(), Trip()
    store_batch(own_engine, [accepted(first), delivered(first, 10)])
    store_batch(own_engine, [accepted(second), delivered(second, 20)])
    bad = track_of(own_engine, first).id

    def fails_for_one(
        engine: sa.Engine, track_id: UUID, rule: Rule, tell: Any, describe: Any
    ) -> None:
        if track_id == bad:
            raise sa.exc.OperationalError("", None, Exception("statement timeout"))
        update_metadata(engine, track_id, rule, tell, describe)

    monkeypatch.setattr(maintenance, "update_metadata", fails_for_one)
    rounds = [
        await upkeep.tasks._attempt("metadata", upkeep.tasks._update_metadata) for _ in range(2)
    ]
    assert rounds == [False, True]
    assert waiting_tracks(own_engine, 5) == [bad]


@pytest.mark.gen_test
async def test_a_booking_is_looked_at_once_more_after_its_acceptance(
    upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip, until = Trip(), datetime.now(UTC)
    asked = list[datetime | None]()

    def accepted_since(_: sa.Engine, since: datetime | None) -> tuple[set[UUID], datetime]:
        asked.append(since)
        return ({trip.booking_id} if since is None else set()), until

    monkeypatch.setattr(parking, "accepted_since", accepted_since)
    for _ in range(2):
        assert await upkeep.tasks._attempt("adopt", upkeep.tasks._adopt)
    assert asked == [None, until]
    assert [batch.adopt for batch in upkeep.offered] == [{trip.booking_id}]


@pytest.mark.gen_test
async def test_ingest_forgets_what_it_knows_of_an_erased_booking(
    upkeep: Upkeep, own_engine: sa.Engine
) -> None:
    trip, known = Trip(), TrackCache()
    store_batch(own_engine, [accepted(trip), update(trip, 1), delivered(trip, 9)], known=known)
    assert len(known) == 1
    assert await upkeep.tasks._attempt("adopt", upkeep.tasks._adopt)
    assert upkeep.offered == []
    erase_booking(own_engine, trip.booking_id)
    assert await upkeep.tasks._attempt("adopt", upkeep.tasks._adopt)
    (batch,) = upkeep.offered
    assert batch.adopt == {trip.booking_id}
    store_batch(own_engine, batch.events, batch.adopt, known)
    assert len(known) == 0
