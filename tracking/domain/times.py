"""Times as text: how we write them, and how an operator gives one."""

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Final

# RFC 3339, section 5.6; more than six digits of a second are cut.
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d{1,6})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def rfc3339(time: datetime) -> str:
    """Full precision, always with Z: 2026-02-06T10:30:00.123456Z."""
    utc = time if time.tzinfo is UTC else time.astimezone(UTC)  # which takes as long as the rest
    return utc.isoformat()[: -len("+00:00")] + "Z"


def time_argument(text: str) -> datetime:
    """An ISO 8601 time that says its offset from UTC; a `type` of argparse.

    A time without an offset would mean one moment to the operator and another to the server.
    """
    example = "write 2026-11-24T02:00Z or 2026-11-24T09:00+07:00"
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time: {example}") from None
    if time.tzinfo is None:
        raise ArgumentTypeError(f"{text!r} does not say its offset from UTC: {example}")
    return time


def moment(text: str) -> datetime | None:
    """An RFC 3339 time in UTC; None if it is none. What no calendar has is the nearest that does:
    the year 0 (year 1), a leap second (the next second).
    """
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, offset = match.groups()
    leap = timedelta(seconds=1) if second == "60" else timedelta()
    second = "59" if leap else second
    try:
        day = day.replace("0000-", "0001-", 1) if day.startswith("0000-") else day
        written = f"{day}T{minute}:{second}.{(fraction or '').ljust(6, '0')}"
        time = datetime.fromisoformat(f"{written}{offset.upper()}")
    except ValueError:
        return None
    try:
        return time.astimezone(UTC) + leap
    except OverflowError:  # the first and the last day of all
        return time.replace(tzinfo=UTC)
