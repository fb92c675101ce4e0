"""workers.relay on a real broker: what is sent arrives, and what is not is counted."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tests.running import wait_until
from tracking.domain.changes import BookingChanges, TrackMove
from tracking.errors import DatabaseUnavailable
from tracking.live.fleet import Fleet
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.relay import announcing
from workers.relay import sending as sending_module
from workers.relay.assignment import LINGER_S
from workers.relay.checks import receiver_checks, sender_checks
from workers.relay.client import TOPIC, Seldom, ensure_topic, partitions_of
from workers.relay.receiving import RelayReceiver
from workers.relay.sending import RelaySender


def change(version: int = 1) -> BookingChanges:
    return BookingChanges(uuid4(), [], TrackMove("epoch", version - 1, version, 0))


class Ends:
    """A sender and a receiver on a topic of their own."""

    def __init__(
        self,
        stack: ExitStack,
        environ: dict[str, str],
        linger_s: float = LINGER_S,
        **settings: str,
    ) -> None:
        own = {
            "KAFKA_TOPIC_PREFIX": f"relay-{uuid4().hex[:8]}",
            "RELAY_PARTITIONS": "3",
            **settings,
        }
        self.settings = Settings.from_environment({**environ, **own})
        self.topic = self.settings.topic(TOPIC)
        self.brokers = environ["KAFKA_BROKERS"]
        self.metrics, self.rooms = Metrics(), Rooms()
        self.fleet = Fleet(self.metrics)
        self.died: list[BaseException] = []
        self.got: list[BookingChanges] = []
        self.came = asyncio.Event()
        self.sender = RelaySender(self.settings, self.metrics, "one", self.died.append)
        self.receiver = RelayReceiver(
            self.settings, self.metrics, self.rooms, self.fleet, self.publish, self.died.append,
            linger_s,
        )  # fmt: skip
        self._stack = stack

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        self.got += bookings
        self.came.set()

    def start_sender(self) -> None:
        self.sender.start(lambda: 1.5)
        self._stack.callback(self.sender.wait, 10)
        self._stack.callback(self.sender.stop)

    def start_receiver(self) -> None:
        self.receiver.start()
        self._stack.callback(self.receiver.wait, 10)
        self._stack.callback(self.receiver.stop)

    async def start(self) -> None:
        self.start_sender()
        await until(lambda: self.sender.is_ready)
        self.start_receiver()
        await until(lambda: self.receiver.is_connected)

    def watch(self, *changes: BookingChanges) -> None:
        self.rooms.watched |= {each.booking_id.bytes for each in changes}

    async def arrives(self, changes: Sequence[BookingChanges]) -> None:
        await until(lambda: all(each in self.got for each in changes))

    def metric(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(f"tracking_relay_{name}_total")
        return value or 0.0


async def until(true: object) -> None:
    assert callable(true)
    await asyncio.to_thread(wait_until, true, "true")


@pytest.fixture
def ends(io_loop: object, environ: dict[str, str]) -> Iterator[Ends]:
    with ExitStack() as stack:
        made = Ends(stack, environ)
        yield made
        assert made.died == []


@pytest.mark.gen_test
async def test_what_is_watched_arrives_and_nothing_else(ends: Ends) -> None:
    await ends.start()
    changes = [change(number) for number in range(1, 101)]
    ends.watch(*changes[:60])
    await ends.sender.publish(changes)
    await ends.arrives(changes[:60])
    await until(lambda: ends.metric("changes_sent") == 100)
    assert len(ends.got) == ends.metric("changes_received") == 60
    assert ends.metric("bundles_received") == 3
    assert partitions_of(AdminClient({"bootstrap.servers": ends.brokers}), ends.topic) == 3


@pytest.mark.gen_test
async def test_the_changes_of_one_booking_arrive_in_order(ends: Ends) -> None:
    await ends.start()
    one = uuid4()
    changes = [BookingChanges(one, [], TrackMove("e", n, n + 1, 0)) for n in range(300)]
    ends.watch(changes[0])
    for each in changes:
        await ends.sender.publish([each])
    await ends.arrives(changes)
    assert ends.got == changes


@pytest.mark.gen_test
async def test_before_the_topic_is_there_nothing_waits(ends: Ends) -> None:
    """Dropped and counted: viewers have it from the table."""
    await ends.sender.publish([change(), change()])
    assert (ends.metric("changes_dropped"), ends.sender.dropped) == (2, 2)
    assert not ends.sender.is_ready


@pytest.mark.gen_test
async def test_a_full_queue_drops_and_does_not_wait(
    io_loop: object, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sending_module.PRODUCER_OPTIONS, "queue.buffering.max.messages", 5)
    monkeypatch.setitem(sending_module.PRODUCER_OPTIONS, "linger.ms", 1000)
    with ExitStack() as stack:
        ends = Ends(stack, environ)
        ends.start_sender()
        await until(lambda: ends.sender.is_ready)
        for _ in range(50):
            await ends.sender.publish([change()])
        assert ends.sender.dropped >= 40
        await until(lambda: ends.metric("changes_sent") + ends.sender.dropped == 50)


@pytest.mark.gen_test
async def test_signs_of_life_arrive_and_the_last_one_says_goodbye(ends: Ends) -> None:
    await ends.start()
    await until(lambda: len(ends.receiver.processes) == 1)
    assert ends.receiver.processes.delay_s() == 1.5
    assert receiver_checks(ends.receiver)["ingest"]() == "ok"
    ends.sender.stop()
    assert await asyncio.to_thread(ends.sender.wait, 10)
    await until(lambda: len(ends.receiver.processes) == 0)


@pytest.mark.gen_test
async def test_a_topic_that_is_deleted_comes_again(ends: Ends) -> None:
    await ends.start()
    admin = AdminClient({"bootstrap.servers": ends.brokers})
    admin.delete_topics([ends.topic])[ends.topic].result(30)
    last: list[BookingChanges] = []

    async def arrives() -> bool:
        one = change()
        last.append(one)
        ends.watch(one)
        await ends.sender.publish([one])
        await asyncio.sleep(0.2)
        return any(each in ends.got for each in last)

    for _ in range(200):
        if await arrives():
            break
    assert ends.got
    assert sender_checks(ends.sender)["relay"]().startswith("ok")


@pytest.mark.gen_test
async def test_records_of_others_are_skipped_and_counted(ends: Ends) -> None:
    await ends.start()
    producer = Producer({"bootstrap.servers": ends.brokers})
    for key, value in ((None, b"nonsense"), (b"sign of life", b"\xff"), (None, None)):
        producer.produce(ends.topic, value, key, 0)
    producer.flush(10)
    one = change()
    ends.watch(one)
    await ends.sender.publish([one])
    await ends.arrives([one])
    await until(lambda: ends.metric("records_unreadable") == 3)


@pytest.mark.gen_test
async def test_where_tracks_stand_is_said_at_the_start_and_after_a_loss(ends: Ends) -> None:
    stands, asked = change(), []

    async def recent(seconds: float) -> list[BookingChanges]:
        asked.append(seconds)
        return [stands]

    ends.watch(stands)
    await ends.start()
    job = asyncio.create_task(announcing.announce(ends.sender, recent))
    await ends.arrives([stands])
    assert len(asked) == 1
    ends.got.clear()
    ends.sender._drop(1)
    await ends.arrives([stands])
    job.cancel()


@pytest.mark.gen_test
async def test_while_the_database_is_away_it_is_said_later(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "PAUSE_S", 0.01)
    stands, asked = change(), []

    async def recent(seconds: float) -> list[BookingChanges]:
        asked.append(seconds)
        if len(asked) < 3:
            raise DatabaseUnavailable("away")
        return [stands]

    ends.watch(stands)
    await ends.start()
    job = asyncio.create_task(announcing.announce(ends.sender, recent))
    await ends.arrives([stands])
    assert len(asked) == 3
    job.cancel()


@pytest.mark.gen_test
async def test_without_a_broker_both_say_so_and_wait(
    io_loop: object, environ: dict[str, str]
) -> None:
    with ExitStack() as stack:
        ends = Ends(stack, {**environ, "KAFKA_BROKERS": "127.0.0.1:1"})
        ends.start_sender()
        ends.start_receiver()
        await until(lambda: ends.sender.failing_since is not None)
        assert receiver_checks(ends.receiver)["relay"]().startswith("no broker answers")
        assert "Kafka has not taken" in sender_checks(ends.sender)["relay"]()
        assert ends.died == []


def test_a_topic_that_somebody_else_makes_at_once_is_no_error(environ: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": environ["KAFKA_BROKERS"]})
    topic = f"relay-{uuid4().hex[:8]}"
    assert ensure_topic(admin, topic, 5) == 5
    assert ensure_topic(admin, topic, 7) == 5


def test_librdkafka_is_heard_once_a_minute_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is away is one line, not hundreds."""
    library = logging.getLogger("of librdkafka in a test")
    library.addFilter(Seldom())
    for number in range(50):
        library.error("FAIL [client#%d]: Connection refused", number)
    library.error("REQTMOUT [client]: Timed out")
    said = [record.getMessage() for record in caplog.records if record.name == library.name]
    assert said == ["FAIL [client#0]: Connection refused", "REQTMOUT [client]: Timed out"]
