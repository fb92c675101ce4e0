"""tracking.domain.times: text with an offset, always."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tracking.domain.times import moment, rfc3339, time_argument

AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-11-24T02:00Z", "2026-11-24T09:00+07:00", "2026-11-24 02:00:00+00:00"]
)
def test_a_time_with_its_offset_is_that_moment(text: str) -> None:
    assert time_argument(text) == AT


@pytest.mark.parametrize("text", ["2026-11-24", "2026-11-24T02:00", "noon", ""])
def test_any_other_text_is_rejected(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="write 2026-11-24T02:00Z"):
        time_argument(text)


def test_what_is_written_is_utc_with_z() -> None:
    local = AT.astimezone(timezone(timedelta(hours=7))) + timedelta(microseconds=5)
    assert rfc3339(local) == "2026-11-24T02:00:00.000005Z"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-24T02:00:00Z", AT),
        ("2026-11-24t09:00:00.000000999+07:00", AT),
        ("2026-11-24T01:59:60Z", AT),
        ("0000-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:59", datetime(1, 1, 1, tzinfo=UTC)),
        ("2026-11-24", None),
        ("2026-11-24T02:00:00", None),
        ("2026-11-24T02:00:00 07:00", None),
        ("2026-02-30T02:00:00Z", None),
        ("2026-11-24T24:00:00Z", None),
        ("²026-11-24T02:00:00Z", None),
        ("", None),
    ],
)
def test_a_moment_is_what_rfc_3339_says(text: str, time: datetime | None) -> None:
    assert moment(text) == time
