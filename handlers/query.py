"""What a query's parameters say. Each raises InvalidRequest."""

import math
import re
from datetime import datetime
from typing import Final

from handlers.base import BaseHandler
from tracking.domain.times import moment
from tracking.errors import InvalidRequest

NUMBER: Final = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)


def time_of(handler: BaseHandler, name: str) -> datetime | None:
    text = handler.get_query_argument(name, None)
    found = None if text is None else moment(text)
    if text is not None and found is None:
        raise InvalidRequest(f"{name} is no time like 2026-02-06T10:30:00Z (a + is %2B)")
    return found


def number_of(handler: BaseHandler, name: str, least: float, most: float) -> float | None:
    text = handler.get_query_argument(name, None)
    if text is None:
        return None
    number = float(text) if NUMBER.fullmatch(text) else math.nan
    if not least <= number <= most:
        raise InvalidRequest(f"{name} is no number from {least:g} to {most:g}")
    return number
