"""workers.kafka.in_flight: one bound for batches and dead letters, with a real Kafka."""

import time

import pytest

from tests.consuming import MIB, Group
from tests.running import wait_until
from workers.kafka.in_flight import MAX_BYTES_IN_FLIGHT


def test_what_is_in_flight_is_bounded_by_its_bytes(environ: dict[str, str]) -> None:
    group = Group(environ)
    group.produce(60, padding=MIB - 1_000)
    with group.consuming() as consumer:
        wait_until(lambda: sum(b.bytes for b in group.batches) >= MAX_BYTES_IN_FLIGHT, "full")
        polled = time.monotonic()
        wait_until(lambda: consumer.last_poll > polled + 2, "more polls")
        assert sum(batch.bytes for batch in group.batches) < MAX_BYTES_IN_FLIGHT + 2 * MIB
        read = 0
        while read < 60:
            wait_until(lambda: bool(group.batches), "more records")
            batch = group.batches.pop(0)
            read += batch.size
            consumer.stored(batch)
        wait_until(lambda: group.offset() == 60, "all committed")


def test_dead_letters_that_wait_count_for_what_is_in_flight(environ: dict[str, str]) -> None:
    """A flood of large garbage beside a dead-letter topic that is slow: its memory is bounded."""
    group = Group(environ)
    group.produce_raw(60, b"x" * (MIB - 1_000))
    with group.consuming(is_slow=True) as consumer:
        in_flight = consumer._in_flight
        wait_until(lambda: in_flight.bytes >= MAX_BYTES_IN_FLIGHT // 2, "half of the bound")
        polled = time.monotonic()
        wait_until(lambda: consumer.last_poll > polled + 2, "more polls")
        # Every batch is stored at once: only the dead letters are held.
        assert group.records == 0
        assert in_flight.bytes < MAX_BYTES_IN_FLIGHT // 2 + 2 * MIB
        assert in_flight.dead_letters == pytest.approx(17, abs=2)
        group.start_sender()
        wait_until(lambda: group.offset() == 60, "all are kept, and committed", 60)
        assert (in_flight.bytes, in_flight.dead_letters) == (0, 0)


def test_one_bound_holds_for_garbage_and_for_events_that_wait(environ: dict[str, str]) -> None:
    """Half of it is the garbage's; what the other partitions give has the rest, and no more."""
    group = Group(environ, partitions=2)
    group.produce_raw(40, b"x" * (MIB - 1_000), partition=0)
    group.produce(40, padding=MIB - 1_000, partition=1)
    with group.consuming(is_slow=True, gathers=True) as consumer:
        in_flight = consumer._in_flight
        wait_until(in_flight.is_full, "full")
        polled = time.monotonic()
        wait_until(lambda: consumer.last_poll > polled + 2, "more polls")
        # A poll gives at most one fetch of each partition, of one such record.
        assert in_flight.bytes < MAX_BYTES_IN_FLIGHT + 2 * MIB
        assert in_flight.dead_letters == pytest.approx(17, abs=2)
        assert group.records == pytest.approx(16, abs=3)
        group.start_sender()
        stored = 0

        def is_settled() -> bool:
            nonlocal stored
            while group.batches:
                batch = group.batches.pop(0)
                stored += batch.size
                consumer.stored(batch)
            return stored == 40 and (in_flight.bytes, in_flight.dead_letters) == (0, 0)

        wait_until(is_settled, "all events are stored, all garbage is kept")
        wait_until(lambda: is_settled() and group.offset() == 40, "committed")
