"""workers.kafka.records: the records and the errors that kafka-python's own reading gives."""

import random
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c

from workers.kafka.records import PartitionRecords

PARTITION = TopicPartition("t", 3)
PLAIN, GZIP = 0, 1
# Where things are in a batch of format 2, and what its attributes say.
LENGTH, CHECKSUM, ATTRIBUTES, LAST_OFFSET_DELTA, OFFSET_OF_RECORDS = 8, 17, 21, 23, 61
APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
ABORT, COMMIT = 0, 1


def batch(records: list[tuple[Any, ...]], codec: int = PLAIN) -> bytes:
    builder = MemoryRecordsBuilder(2, codec, 1 << 24)
    for timestamp, key, value, headers in records:
        builder.append(timestamp=timestamp, key=key, value=value, headers=headers)
    builder.close()
    return bytes(builder.buffer())


def read(kind: type[Any], data: bytes, fetch_offset: int = 0) -> list[Any]:
    # What a record is, less what nobody asks for: checksum and sizes.
    return [record[:9] for record in kind(fetch_offset, PARTITION, MemoryRecords(data)).take()]


def drawn(seed: int) -> list[tuple[Any, ...]]:
    draw = random.Random(seed)

    def some(longest: int) -> bytes | None:
        return None if draw.random() < 0.1 else draw.randbytes(draw.randrange(longest))

    return [
        (
            1_700_000_000_000 + draw.choice([-5, 0, 1, 63, 64, 8_191, 8_192, 10**9, 10**12]),
            some(100),
            some(draw.choice([10, 70, 400, 20_000])),
            [(f"h{n}é", some(80)) for n in range(draw.choice([0, 0, 0, 1, 3]))],
        )
        for _ in range(draw.choice([1, 70, 300]))
    ]


@pytest.mark.parametrize("codec", [PLAIN, GZIP])
@pytest.mark.parametrize("seed", range(8))
def test_records_are_what_kafka_python_reads(seed: int, codec: int) -> None:
    data = batch(drawn(seed), codec) + batch(drawn(seed + 100), codec)
    assert read(PartitionRecords, data) == read(Fetcher.PartitionRecords, data)


def test_reading_begins_in_the_middle_of_a_batch_and_goes_on_where_it_stopped() -> None:
    data = batch([(n, None, b"%d" % n, []) for n in range(10)])
    part = PartitionRecords(4, PARTITION, MemoryRecords(data))
    assert [record.value for record in part.take(3)] == [b"4", b"5", b"6"]
    assert part.next_fetch_offset == 7
    assert [record.value for record in part.take()] == [b"7", b"8", b"9"]
    assert (part.next_fetch_offset, bool(part)) == (10, False)


# Not the attributes: they mean nothing, and kafka-python takes them for a number.
@pytest.mark.parametrize("damaged", [0, *range(2, 14)])
def test_a_flipped_byte_is_found_with_and_without_checksums(damaged: int) -> None:
    data = bytearray(batch([(n, b"key", b"value", []) for n in range(2)]))
    data[OFFSET_OF_RECORDS + damaged] ^= 0xFF
    with pytest.raises(CorruptRecordError):
        read(PartitionRecords, bytes(data))
    theirs, ours = (
        unchecked(kind, bytes(data)) for kind in (Fetcher.PartitionRecords, PartitionRecords)
    )
    assert theirs == ours


def unchecked(kind: type[Any], data: bytes) -> list[Any] | str:
    part = kind(0, PARTITION, MemoryRecords(data), check_crcs=False)
    try:
        return [record[:9] for record in part.take()]
    except CorruptRecordError:
        return "corrupt"


def test_records_of_the_old_format_are_read() -> None:
    builder = MemoryRecordsBuilder(1, PLAIN, 1 << 16)
    for value in (b"old", b"older"):
        builder.append(timestamp=5, key=None, value=value, headers=[])
    builder.close()
    data = bytes(builder.buffer())
    found = read(PartitionRecords, data)
    assert found == read(Fetcher.PartitionRecords, data)
    assert [record[7] for record in found] == [b"old", b"older"]


def changed(data: bytes, at: int, new: bytes) -> bytes:
    """A batch with other bytes there, under a checksum that fits."""
    data = data[:at] + new + data[at + len(new) :]
    checksum = struct.pack(">I", calc_crc32c(data[ATTRIBUTES:]))
    return data[:CHECKSUM] + checksum + data[ATTRIBUTES:]


def with_attributes(data: bytes, attributes: int) -> bytes:
    return changed(data, ATTRIBUTES, struct.pack(">h", attributes))


def test_a_topic_that_takes_the_brokers_time_gives_all_of_a_batch_its_newest() -> None:
    data = with_attributes(batch([(5, None, b"a", []), (7, None, b"b", [])]), APPEND_TIME)
    found = read(PartitionRecords, data)
    assert found == read(Fetcher.PartitionRecords, data)
    assert [record[4] for record in found] == [7, 7]


def test_reading_goes_on_behind_the_last_offset_of_a_batch_that_was_compacted() -> None:
    data = changed(batch([(0, None, b"a", [])]), LAST_OFFSET_DELTA, struct.pack(">i", 9))
    part = PartitionRecords(0, PARTITION, MemoryRecords(data))
    assert len(part.take()) == 1
    assert part.next_fetch_offset == 10


def written(first: int, producer: int, *values: bytes, key: bytes | None = None) -> bytes:
    """A batch of a transaction."""
    builder = MemoryRecordsBuilder(
        2, PLAIN, 1 << 16, offset=first, transactional=True, producer_id=producer,
        producer_epoch=0, base_sequence=0,
    )  # fmt: skip
    for value in values:
        builder.append(timestamp=0, key=key, value=value, headers=[])
    builder.close()
    return bytes(builder.buffer())


def marker(offset: int, producer: int, kind: int) -> bytes:
    """What ends a transaction."""
    data = written(offset, producer, b"", key=struct.pack(">hh", 0, kind))
    return with_attributes(data, TRANSACTIONAL | CONTROL)


@pytest.mark.parametrize(
    ("level", "values"),
    [(IsolationLevel.READ_COMMITTED, b"cd"), (IsolationLevel.READ_UNCOMMITTED, b"abcd")],
)
def test_what_a_transaction_wrote_that_was_aborted_is_left_out(level: Any, values: bytes) -> None:
    data = written(0, 1, b"a", b"b") + written(2, 2, b"c") + marker(3, 1, ABORT)
    data += written(4, 1, b"d") + marker(5, 2, COMMIT) + marker(6, 1, COMMIT)
    aborted = [SimpleNamespace(producer_id=1, first_offset=0)]
    for kind in (PartitionRecords, Fetcher.PartitionRecords):
        part = kind(
            0, PARTITION, MemoryRecords(data), isolation_level=level, aborted_transactions=aborted
        )
        assert b"".join(record.value for record in part.take()) == values
        assert part.next_fetch_offset == 7


# Size, attributes, time, offset, no key, one byte of value, number of headers.
GOOD = b"\x0e\x00\x00\x00\x01\x02v\x00"


@pytest.mark.parametrize(
    "record",
    [
        GOOD + b"\x00",
        b"\x10" + GOOD[1:] + b"\x00",
        b"\x24\x00" + b"\x80" * 11 + b"\x00" + GOOD[3:],
        GOOD[:-1] + b"\x01",
        b"\x12" + GOOD[1:-1] + b"\x02\x01\x01",
        b"\x14" + GOOD[1:-1] + b"\x02\x08h\x01",
    ],
    ids=["more-follows", "ends-early", "number-too-long", "headers-below-0", "no-name", "beyond"],
)
def test_what_no_producer_writes_is_corrupt_under_a_good_checksum(record: bytes) -> None:
    def holding(record: bytes) -> bytes:
        data = batch([(0, None, b"v", [])])[:OFFSET_OF_RECORDS] + record
        return changed(data, LENGTH, struct.pack(">i", len(data) - LENGTH - 4))

    assert [each[7] for each in read(PartitionRecords, holding(GOOD))] == [b"v"]
    for kind in (PartitionRecords, Fetcher.PartitionRecords):
        part = kind(0, PARTITION, MemoryRecords(holding(record)))
        with pytest.raises(CorruptRecordError):
            assert [part.take(), part.take()]  # what is good before it is given first
