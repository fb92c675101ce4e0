"""Bytes that Kafka's own format cannot give back: which partition, and where reading goes on.

kafka-python 3.0.12 raises from poll() without saying where, and afterwards raises for ever. The
traceback's frames know the batch; there is no public call for it.
"""

import traceback
from typing import Any

from kafka import TopicPartition
from kafka.errors import UnsupportedCodecError
from msgspec import Struct


class Unreadable(Struct, frozen=True):
    """A record batch that cannot be read."""

    partition: TopicPartition
    next_offset: int | None  # the first one behind it; None when its own header makes no sense


def unreadable(error: BaseException) -> Unreadable | None:
    """None if the error is not about one partition's bytes."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals
        if frame.f_code.co_name in ("_unpack_records", "_parse_fetched_data"):
            partition = local.get("tp")
            if isinstance(partition, TopicPartition):
                return Unreadable(partition, _behind(local.get("batch")))
    return None


def _behind(batch: Any) -> int | None:
    """The offset behind a batch whose header agrees with itself."""
    try:
        if batch.last_offset_delta + 1 == batch.records_count:
            return int(batch.next_offset)
    except Exception:
        return None  # an older format, or a header that was hit
    return None


def lacks_codec(error: BaseException) -> bool:
    """A codec that could be installed is no poison; one that nobody knows is."""
    return isinstance(error, UnsupportedCodecError) and "Libraries for" in str(error)
