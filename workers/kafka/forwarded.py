"""Records that one ingest process reads and another stores: `<prefix>.tracking.routed`. Pure.

The platform's record keys scatter a booking's events over all partitions, and two processes that
store events of the same booking wait for each other's row locks. So each shard of bookings has one
process that stores it: the one to which Kafka has given that partition of the routed topic. What
another process reads of such a booking goes there, whole, many records in one (a bundle).

Storing what is not ours is correct all the same, only slow: whoever stores, locks. So the shard is
looked for without decoding, and what does not show it is stored where it was read.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from kafka import TopicPartition
from msgspec import MsgspecError, Struct, field, msgpack

from tracking.wire.relay import SHARDS
from workers.kafka.dead_letters import size_of

ROUTED_TOPIC: Final = "tracking.routed"
# A bundle has room for some; larger ones are rare, and stored where they were read.
MOST_RECORD_BYTES: Final = 64 << 10
# A hundred usual records; Kafka takes a megabyte.
MOST_BUNDLE_BYTES: Final = 48 << 10
VERSION: Final = 1

# The last byte of the booking's id. An update without one goes by its runner's: his updates of one
# booking then meet in one process.
_BOOKING: Final = re.compile(rb'"booking_id"\s*:\s*"[0-9a-fA-F-]{34}([0-9a-fA-F]{2})"')
_RUNNER: Final = re.compile(rb'"runner_id"\s*:\s*"[0-9a-fA-F-]{34}([0-9a-fA-F]{2})"')


class Source(Struct, frozen=True, array_like=True, gc=False):
    """Where the platform wrote the record."""

    topic: str
    partition: int
    offset: int


class Forwarded(Struct, frozen=True, gc=False):
    """A record out of a bundle: coordinates of the bundle, all else as the platform wrote it."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # ms since 1970
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    source: Source
    is_last: bool  # of its bundle


class Elsewhere(Struct, frozen=True, gc=False):
    """The place of a record that another process stores, in the order of what was read."""

    offset: int
    timestamp: int
    key: None = None
    value: None = None
    headers: tuple[()] = ()


class _Entry(Struct, frozen=True, array_like=True, gc=False):
    source: Source
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Bundle(Struct):
    """Records on their way to another process."""

    records: list[Any]
    # Of each partition they came from the first offset: up to there may be committed meanwhile.
    offsets: dict[TopicPartition, int]
    bytes: int
    # ... and in which generation of each (workers/kafka/offsets.py); set when they are held.
    generations: dict[TopicPartition, int] = field(default_factory=dict)


class _Content(Struct, frozen=True, array_like=True, gc=False):
    version: int
    entries: list[_Entry]


_encoder: Final = msgpack.Encoder()
_contents: Final = msgpack.Decoder(_Content)


def shard_in(record: Any) -> int | None:
    """0 to 255: whose record it is; None: nobody's in particular."""
    value = record.value
    if (
        value is None
        or len(value) > MOST_RECORD_BYTES
        or len(record.key or b"") > MOST_RECORD_BYTES
    ):
        return None
    found = _BOOKING.search(value) or _RUNNER.search(value)
    return int(found[1], 16) & (SHARDS - 1) if found else None


def bundles_of(records: Iterable[Any]) -> Iterator[Bundle]:
    """kafka-python's records, in order, as few bundles as their bytes allow."""
    part: list[Any] = []
    size = 0
    for record in records:
        part.append(record)
        size += size_of(record)
        if size >= MOST_BUNDLE_BYTES:
            yield _bundle(part, size)
            part, size = [], 0
    if part:
        yield _bundle(part, size)


def _bundle(records: list[Any], size: int) -> Bundle:
    offsets: dict[TopicPartition, int] = {}
    for record in records:
        offsets.setdefault(TopicPartition(record.topic, record.partition), record.offset)
    return Bundle(records, offsets, size)


def encoded(bundle: Bundle) -> bytes:
    """The value of one record of the routed topic."""
    entries = [
        _Entry(
            Source(record.topic, record.partition, record.offset),
            record.timestamp,
            record.key,
            record.value,
            list(record.headers or ()),
        )
        for record in bundle.records
    ]
    return _encoder.encode(_Content(VERSION, entries))


def unbundled(record: Any) -> list[Any]:
    """The records in a record of the routed topic; the record itself if it is no bundle."""
    try:
        found = _contents.decode(record.value or b"")
    except MsgspecError:
        return [record]
    last = len(found.entries) - 1
    if found.version != VERSION or last < 0:
        return [record]
    return [
        Forwarded(
            record.topic, record.partition, record.offset,
            each.timestamp, each.key, each.value, each.headers, each.source, number == last,
        )
        for number, each in enumerate(found.entries)
    ]  # fmt: skip


def end_of(record: Any) -> int:
    """The offset that may be committed when all up to this record is stored."""
    within = isinstance(record, Forwarded) and not record.is_last
    return int(record.offset) + (0 if within else 1)
