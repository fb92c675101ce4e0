"""Times as text: how we write them, and how an operator gives one."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime


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
