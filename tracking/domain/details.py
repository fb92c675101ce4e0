"""The second look at an event that is not what its type says: which of its fields spoil it?

What identifies or orders an event has to be right. Everything else is a detail: kept as far as it
can be, else dropped, and named so that it is counted. Python's own parser reads what msgspec
rejects: NaN, half a surrogate pair, bytes that are not UTF-8, integers of any length.
"""

import json
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from math import isfinite
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from tracking.errors import InvalidEvent

T = TypeVar("T", bound=Struct)

# No float is larger; of more than some thousand digits Python makes no int.
INT_DIGITS: Final = 300
UNUSABLE: Final = (msgspec.ValidationError, OverflowError, UnicodeError)
# Of a booking number, in characters.
MAX_TEXT: Final = 128


def object_of(value: bytes) -> dict[str, Any]:
    """A JSON object, read as leniently as Python can. Raises InvalidEvent."""
    text = value.decode(errors="replace")
    try:
        found = json.loads(text, parse_int=_number, strict=False)
    except (ValueError, RecursionError):
        raise InvalidEvent("JSON is malformed, or nested too deeply") from None
    if not isinstance(found, dict):
        raise InvalidEvent("not a JSON object")
    return found


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= INT_DIGITS else float(digits)


def checked(kind: type[T], found: dict[str, Any], needed: Collection[str]) -> tuple[T, list[str]]:
    """The typed value without its unusable details, and their names.

    Needed are the type's required fields and those in `needed`: raises InvalidEvent for them.
    """
    values, dropped = {}, []
    for field in _fields(kind):
        name = field.encode_name
        if name not in found:
            continue
        try:
            values[name] = _converted(found[name], field.type)
        except UNUSABLE as error:
            if field.required or name in needed:
                reason = "not UTF-8" if isinstance(error, UnicodeError) else str(error)
                raise InvalidEvent(f"{reason} - at `$.{name}`") from None
            dropped.append(name)
            with suppress(*UNUSABLE):
                values[name] = msgspec.convert(text_of(found[name]), field.type)
    for field in _fields(kind):
        if field.required and field.encode_name not in values:
            raise InvalidEvent(f"Object missing required field `{field.encode_name}`")
    return kind(**values), dropped


def _converted(value: object, kind: Any) -> Any:
    if isinstance(value, str):
        value.encode()  # raises for half a surrogate pair
    return msgspec.convert(value, kind)


@lru_cache(maxsize=64)
def _fields(kind: type[Struct]) -> tuple[FieldInfo, ...]:
    return fields(kind)


def text_of(value: object) -> str | None:
    """A text as it can be stored: a number as its digits; without NUL and half characters."""
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        value = repr(value)
    if not isinstance(value, str):
        return None
    return value.replace("\0", "").encode(errors="ignore").decode()[:MAX_TEXT]
