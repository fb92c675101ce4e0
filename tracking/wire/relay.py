"""What goes through the relay's topic: the changes of one transaction, and signs of life. Pure.

A bundle is one Kafka record for each transaction and partition: a header, an index, the parts.
Whoever reads it looks at the index only, and decodes the parts of bookings that somebody watches.

    header  magic (2 bytes), number of parts (4 bytes)
    index   for each part: booking id (16 bytes), end of the part, from the first one (4 bytes)
    parts   MessagePack of BookingChanges, positional

Numbers are little-endian. Fields may be added at the end of a struct: readers of the version before
ignore them, and have defaults for those that are missing.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from struct import Struct as Packed
from struct import error as StructError
from typing import Final
from uuid import UUID

from msgspec import MsgspecError, Struct, msgpack

from tracking.domain.changes import BookingChanges

MAGIC: Final = b"T1"
# The record key of a sign of life; bundles have none.
SIGN_KEY: Final = b"sign of life"
_HEADER: Final = Packed("<2sI")
_PART: Final = Packed("<16sI")
# Bookings fall into so many shards for ever: a proxy may send each to the process that reads it.
SHARDS: Final = 256
# A broker takes a megabyte; a transaction of a backlog may have several.
MOST_BYTES: Final = 512 << 10

_encoder: Final = msgpack.Encoder(uuid_format="bytes")
_changes: Final = msgpack.Decoder(BookingChanges)


class SignOfLife(Struct, frozen=True, array_like=True):
    """An ingest process lives: by how many seconds it is behind. `leaves`: it stops, in order."""

    process: str
    delay_s: float
    leaves: bool = False


_signs: Final = msgpack.Decoder(SignOfLife)


class Unreadable(ValueError):
    """Bytes that are no bundle of a version that is known here."""


def shard_of(booking_id: UUID) -> int:
    """The last byte: random in UUIDs of versions 4 and 7."""
    return booking_id.int & (SHARDS - 1)


def by_partition(
    bookings: Iterable[BookingChanges], partitions: int
) -> dict[int, list[BookingChanges]]:
    """Where the changes of a transaction go."""
    found: dict[int, list[BookingChanges]] = defaultdict(list)
    for booking in bookings:
        found[shard_of(booking.booking_id) % partitions].append(booking)
    return found


def bundles(bookings: Sequence[BookingChanges]) -> Iterator[tuple[int, bytes]]:
    """Each with the number of its bookings; more than one only if there is too much for one."""
    index, parts, end = bytearray(), list[bytes](), 0
    for booking in bookings:
        part = _encoder.encode(booking)
        if parts and end + len(part) > MOST_BYTES:
            yield len(parts), _bundle(index, parts)
            index, parts, end = bytearray(), [], 0
        end += len(part)
        index += _PART.pack(booking.booking_id.bytes, end)
        parts.append(part)
    if parts:
        yield len(parts), _bundle(index, parts)


def _bundle(index: bytearray, parts: list[bytes]) -> bytes:
    return b"".join((_HEADER.pack(MAGIC, len(parts)), index, *parts))


def changes_in(bundle: bytes, watched: Container[bytes] | None) -> Iterator[BookingChanges]:
    """The changes of bookings whose ids are in `watched`; of None, all. Raises Unreadable."""
    try:
        magic, count = _HEADER.unpack_from(bundle)
        if magic != MAGIC:
            raise ValueError(f"begins with {magic!r}, not with {MAGIC!r}")
        view = memoryview(bundle)
        first = begin = _HEADER.size + count * _PART.size
        for booking_id, end in _PART.iter_unpack(view[_HEADER.size : first]):
            if watched is None or booking_id in watched:
                yield _changes.decode(view[begin : first + end])
            begin = first + end
    except (StructError, MsgspecError, ValueError, OverflowError) as error:
        raise Unreadable(str(error)) from None


def sign_of_life(sign: SignOfLife) -> bytes:
    return msgpack.encode(sign)


def sign_of(value: bytes) -> SignOfLife:
    """Raises Unreadable."""
    try:
        return _signs.decode(value)
    except (MsgspecError, ValueError) as error:
        raise Unreadable(str(error)) from None
