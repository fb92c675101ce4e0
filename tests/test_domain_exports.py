"""tracking.domain.exports: how an export's file is called."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.exports import LONGEST_NAME, file_name

BOOKING = UUID("5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        ("BK-1", "BK-1.gpx"),
        ("../../etc/passwd", "etc_passwd.gpx"),
        ('a"; x="b', "a_x_b.gpx"),
        ("BK\r\nSet-Cookie: x", "BK_Set-Cookie_x.gpx"),
        (".", f"{BOOKING}.gpx"),
        ("預訂", f"{BOOKING}.gpx"),
        (None, f"{BOOKING}.gpx"),
    ],
)
def test_a_file_is_called_after_its_booking(number: str | None, name: str) -> None:
    assert file_name(number, BOOKING, "gpx") == name


@given(st.text())
def test_no_number_makes_a_name_that_is_dangerous(number: str) -> None:
    name = file_name(number, BOOKING, "csv")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name.removeprefix("_"))
    assert len(name) <= LONGEST_NAME + 4
