"""Transactional producers: what they abort has never happened, and control records are no lag."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from kafka import KafkaProducer

from tests.consuming import Group
from tests.running import Platform, Server, Trip, envelope, stamp, wait_until
from workers.kafka import lag


@contextmanager
def transactional(brokers: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=brokers, transactional_id=f"test-{uuid4()}")
    producer.init_transactions()
    try:
        yield producer
    finally:
        producer.close(timeout=5)


def update(group: Group, second: int) -> bytes:
    return json.dumps(envelope("runner.location_update", group.trip.update(second))).encode()


def metric(group: Group, name: str) -> float | None:
    labels = {"topic": group.topic, "partition": "0"}
    return group.metrics.registry.get_sample_value(f"tracking_{name}", labels)


def test_what_is_aborted_has_never_happened_and_what_is_committed_has(
    server: Server, platform: Platform
) -> None:
    """A delivery that is confirmed and aborted: the trip goes on, until one is committed."""
    trip, times = Trip(), 0
    platform.accept(trip)
    at = stamp(trip.at(30))
    data = {**trip.identity(), "delivered_at": at, "occurred_at": at}
    delivery = json.dumps(envelope("booking.delivery_confirmed", data)).encode()

    def deliveries() -> float:
        return server.metric("tracking_events_total", type="booking.delivery_confirmed")

    def positions_are_accepted() -> None:
        nonlocal times
        before, times = server.metric("tracking_waypoints_stored_total"), times + 1
        for second in range(5):
            platform.update(trip, 100 * times + second)
        wait_until(lambda: server.metric("tracking_waypoints_stored_total") >= before + 5, "stored")

    positions_are_accepted()
    before = deliveries()
    with transactional(platform.brokers) as producer:
        for end in (producer.abort_transaction, producer.commit_transaction):
            producer.begin_transaction()
            producer.send(f"{platform.prefix}.booking.events", value=delivery).get(timeout=15)
            positions_are_accepted()
            assert deliveries() == before
            end()
            if end == producer.abort_transaction:
                for _ in range(9):  # in whichever partition it was: what is behind it is read
                    platform.accept(Trip())
                positions_are_accepted()
                assert deliveries() == before
        wait_until(lambda: deliveries() == before + 1, "delivered")


def test_offsets_go_past_control_records_and_leave_no_lag(environ: dict[str, str]) -> None:
    group = Group(environ)
    with transactional(group.brokers) as producer, group.consuming() as consumer:
        for second, end in enumerate([producer.commit_transaction, producer.abort_transaction]):
            producer.begin_transaction()
            producer.send(group.topic, value=update(group, second)).get(timeout=15)
            end()
        wait_until(lambda: group.records == 1, "the committed one")
        while group.offset() < 4:  # two records, two that end their transactions
            wait_until(lambda: bool(group.batches), "an offset to commit")
            consumer.stored(group.batches.pop(0))
            wait_until(lambda: not consumer._in_flight.records, "noted")
            if not group.batches:
                wait_until(lambda: bool(group.batches) or group.offset() == 4, "the rest")
        wait_until(lambda: metric(group, "consumer_lag_records") == 0, "no lag")
        assert consumer.lag.delay_s() == 0
        assert consumer.lag.open_transactions() == {}


def test_a_transaction_that_is_left_open_is_told(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lag, "MEASURE_INTERVAL_S", 0.0)  # it is told whatever that is
    monkeypatch.setattr(lag, "OPEN_TRANSACTION_S", 1.0)
    group = Group(environ)
    group.produce(2)
    with transactional(group.brokers) as producer, group.consuming() as consumer:
        wait_until(lambda: group.records == 2, "what is before it")
        wait_until(lambda: consumer.lag.delay_s() == 0, "all is read")
        producer.begin_transaction()
        producer.send(group.topic, value=update(group, 5))
        producer.flush(timeout=15)
        group.produce(3)
        wait_until(lambda: group.partition in consumer.lag.open_transactions(), "told")
        wait_until(lambda: (metric(group, "open_transaction_seconds") or 0) >= 1, "measured")
        assert metric(group, "consumer_lag_records") == 4
        assert 1 <= consumer.lag.delay_s() < math.inf
        assert group.records == 2
        wait_until(lambda: "transaction has been open" in caplog.text, "logged")
        producer.commit_transaction()
        wait_until(lambda: group.records == 6, "all is read")
        wait_until(lambda: not consumer.lag.open_transactions(), "nothing is open")
        wait_until(lambda: metric(group, "open_transaction_seconds") is None, "nor in the metrics")
        assert caplog.text.count("transaction has been open") == 1
