"""Kafka's files, damaged as a bad disk would: a record batch in a segment of a stopped broker.

https://kafka.apache.org/documentation/#recordbatch
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import crc32c

HEADER_BYTES: Final = 61
# Base offset, length of what follows it.
BEGIN: Final = struct.Struct(">qi")
CRC_AT: Final = 17
ATTRIBUTES_AT: Final = 21
LAST_DELTA_AT: Final = 23
CODECS: Final = 0b111


class RecordBatch(NamedTuple):
    """Where it is, and what it holds."""

    position: int
    end: int
    first: int
    last: int


def batches(path: Path) -> Iterator[RecordBatch]:
    """All of a segment."""
    data, position = path.read_bytes(), 0
    while position + HEADER_BYTES <= len(data):
        first, length = BEGIN.unpack_from(data, position)
        (delta,) = struct.unpack_from(">i", data, position + LAST_DELTA_AT)
        end = position + BEGIN.size + length
        yield RecordBatch(position, end, first, first + delta)
        position = end


def flip(path: Path, batch: RecordBatch, text: bytes) -> None:
    """One bit of the first record that holds this text."""
    data = bytearray(path.read_bytes())
    at = data.index(text, batch.position, batch.end)
    data[at] ^= 1
    path.write_bytes(data)


def set_codec(path: Path, batch: RecordBatch, codec: int) -> None:
    """The batch says that it is compressed so; its checksum is right."""
    data = bytearray(path.read_bytes())
    at = batch.position + ATTRIBUTES_AT
    (attributes,) = struct.unpack_from(">h", data, at)
    struct.pack_into(">h", data, at, (attributes & ~CODECS) | codec)
    checksum = crc32c.crc32c(bytes(data[at : batch.end]))
    struct.pack_into(">I", data, batch.position + CRC_AT, checksum)
    path.write_bytes(data)
