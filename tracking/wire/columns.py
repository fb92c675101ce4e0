"""Columns of numbers and times as text, at the speed of C: what exports are woven from.

orjson is needed for this one thing that msgspec can't do: it writes numpy's arrays.
"""

from typing import Any, Final, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from tracking.domain.points import Numbers, Whole

# A text for each row, or one that all rows have.
Column: TypeAlias = bytes | list[bytes]
# Times without a zone are UTC, which is written as Z.
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
# From here on orjson writes 1e-6, which is no decimal of XML Schema.
_NEAR_ZERO: Final = 1e-4


def pairs(longitude: Numbers, latitude: Numbers) -> bytes:
    """`[106.8,-6.2],[…],…`"""
    return orjson.dumps(np.column_stack((longitude, latitude)), option=_OPTIONS)[1:-1]


def json_times(times: Whole) -> bytes:
    """Microseconds since 1970 as RFC 3339: `"2026-02-06T10:30:00Z","2026-…",…`"""
    return orjson.dumps(_datetimes(times), option=_OPTIONS)[1:-1]


def times_joined(times: Whole, between: bytes) -> bytes:
    """`2026-02-06T10:30:00Z{between}2026-…`"""
    return orjson.dumps(_datetimes(times), option=_OPTIONS)[2:-2].replace(b'","', between)


def times_text(times: Whole) -> list[bytes]:
    return orjson.dumps(_datetimes(times), option=_OPTIONS)[2:-2].split(b'","')


def _has_exponents(column: Numbers) -> bool:
    return bool(((np.abs(column) < _NEAR_ZERO) & (column != 0)).any())


def numbers_text(column: NDArray[Any]) -> list[bytes]:
    """Shortest form; `null` for NaN."""
    return orjson.dumps(np.ascontiguousarray(column), option=_OPTIONS)[1:-1].split(b",")


def decimals_text(column: Numbers) -> list[bytes]:
    """Numbers with at most six decimals, none with an exponent."""
    if _has_exponents(column):
        return [f"{number:.6f}".encode() for number in column.tolist()]
    return numbers_text(column)


def decimal_pairs_joined(first: Numbers, second: Numbers, within: bytes, between: bytes) -> bytes:
    """`106.8{within}-6.2{between}…`, as `decimals_text` each; no comma may stand in `between`.

    To replace what stands between the numbers costs less than to weave a text for each of them.
    """
    if _has_exponents(first) or _has_exponents(second):
        texts = decimal_pairs_text(first, second)
        return between.join(text.replace(b",", within) for text in texts)
    return _pairs(first, second).replace(b"],[", between).replace(b",", within)


def decimal_pairs_text(first: Numbers, second: Numbers) -> list[bytes]:
    """`106.8,-6.2`, as `decimals_text` each: one text for a row costs half of two."""
    if _has_exponents(first) or _has_exponents(second):
        both = zip(decimals_text(first), decimals_text(second), strict=True)
        return [b"%b,%b" % each for each in both]
    return _pairs(first, second).split(b"],[")


def optional_pairs_text(first: NDArray[Any], second: NDArray[Any]) -> list[bytes]:
    """`36.5,90.0` in shortest form; empty for NaN, as in `36.5,`."""
    return _pairs(first, second).replace(b"null", b"").split(b"],[")


def _pairs(first: NDArray[Any], second: NDArray[Any]) -> bytes:
    """`106.8,-6.2],[…`"""
    return orjson.dumps(np.column_stack((first, second)), option=_OPTIONS)[2:-2]


def woven(*columns: Column) -> bytes:
    """Row by row; bytes stand for a column that has the same text everywhere.

    Slices are filled at the speed of C: half of what `zip` costs.
    """
    count = max(len(column) for column in columns if isinstance(column, list))
    texts = [b""] * (len(columns) * count)
    for place, column in enumerate(columns):
        same = [column] * count if isinstance(column, bytes) else column
        texts[place :: len(columns)] = same
    return b"".join(texts)


def _datetimes(times: Whole) -> NDArray[np.datetime64]:
    return np.ascontiguousarray(times).view("datetime64[us]")
