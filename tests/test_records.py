"""workers.kafka.records: the records and the errors that kafka-python's own reading gives."""

import random
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords, MemoryRecordsBuilder

from workers.kafka.records import PartitionRecords

PARTITION = TopicPartition("t", 3)
PLAIN, GZIP = 0, 1
OFFSET_OF_RECORDS = 61  # behind the header of a batch


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
    builder.append(timestamp=5, key=None, value=b"old", headers=[])
    builder.close()
    data = bytes(builder.buffer())
    assert read(PartitionRecords, data) == read(Fetcher.PartitionRecords, data)
