"""The one text of a route that its SHA-256 is of: the same columns and digits for ever. Pure.

A change of any byte here makes every receipt that was issued look wrong.
"""

from typing import Any, Final

import numpy as np
import orjson

from tracking.domain.points import EVERYTHING, Points, Whole

# The order of the route; whoever computes it needs nothing but these columns.
COLUMNS: Final = (
    "seq", "recorded_at", "received_at", "longitude", "latitude", "speed_kmh", "heading_degrees",
    "verdict",
)  # fmt: skip
READ: Final = EVERYTHING
HEAD: Final = ",".join(COLUMNS).encode() + b"\r\n"
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def canonical_rows(points: Points) -> bytes:
    """RFC 4180 without quotes; the fewest digits that are exactly the stored number, empty for an
    unknown one; times in UTC, with six digits of a second or none.
    """
    if not points.count:
        return b""
    columns = (
        _numbers(points.seq), _times(points.recorded_at), _times(points.received_at),
        _numbers(points.longitude), _numbers(points.latitude), _numbers(points.speed_kmh),
        _numbers(points.heading_degrees), _numbers(points.verdict),
    )  # fmt: skip
    return b"\r\n".join(map(b",".join, zip(*columns, strict=True))) + b"\r\n"


def _numbers(column: np.ndarray[Any, Any]) -> list[bytes]:
    texts = orjson.dumps(np.ascontiguousarray(column), option=_OPTIONS)[1:-1].split(b",")
    return [b"" if text == b"null" else text for text in texts]


def _times(times: Whole) -> list[bytes]:
    dates = np.ascontiguousarray(times).view("datetime64[us]")
    return orjson.dumps(dates, option=_OPTIONS)[2:-2].split(b'","')
