"""tracking.wire.columns: numbers and times as text, thousands at once."""

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.columns import points_of
from tracking.domain.points import joined
from tracking.domain.times import rfc3339
from tracking.wire import columns

START = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
DEGREES = st.one_of(st.floats(-180, 180), st.sampled_from([0.0, -0.0, 1e-6, -1e-6, 1e-5, 9.9e-5]))


@given(st.lists(DEGREES, min_size=1))
def test_degrees_are_decimals_of_xml_schema_with_six_digits(numbers: list[float]) -> None:
    rounded, _ = points_of([(n, 0.0) for n in numbers], [0.0] * len(numbers), START).rounded()
    for text, number in zip(columns.decimals_text(rounded), numbers, strict=True):
        assert re.fullmatch(rb"-?\d+\.\d{1,6}", text)
        assert not re.fullmatch(rb"-0\.0+", text)
        assert abs(Decimal(text.decode()) - Decimal(number)) < Decimal("0.00000051")


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_times_are_written_as_everywhere_else(microseconds: list[int]) -> None:
    times = points_of([(0.0, 0.0)] * len(microseconds), [0.0] * len(microseconds), START)
    moved = times.recorded_at + np.array(microseconds)
    expected = [rfc3339(START + timedelta(microseconds=n)) for n in microseconds]
    assert [text.decode() for text in columns.times_text(moved)] == expected
    assert columns.times_joined(moved, b"; ").decode() == "; ".join(expected)
    assert json.loads(b"[" + columns.json_times(moved) + b"]") == expected


def test_what_is_unknown_is_empty() -> None:
    speeds, courses = np.array([[36.5, float("nan"), 0.1], [90, float("nan"), 1]], np.float32)
    pairs = columns.optional_pairs_text(speeds, courses)
    assert pairs == [b"36.5,90.0", b",", b"0.1,1.0"]


def test_a_pair_is_written_as_its_two_numbers_are() -> None:
    for near_zero in (1e-6, 0.25):
        one, two = np.array([[106.8, -0.5], [near_zero, 2.0]])
        texts = zip(columns.decimals_text(one), columns.decimals_text(two), strict=True)
        pairs = [b",".join(each) for each in texts]
        assert columns.decimal_pairs_text(one, two) == pairs
        joined = columns.decimal_pairs_joined(one, two, b" ", b";\n")
        assert joined == b";\n".join(pairs).replace(b",", b" ")


def test_texts_are_woven_row_by_row() -> None:
    assert columns.woven(b"<", [b"a", b"b"], b">") == b"<a><b>"


def test_points_are_cut_chosen_and_joined_as_one() -> None:
    points = points_of([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)], [0, 5, 10], START)
    assert points.where(np.ones(3, bool)) is points
    chosen = points.where(np.array([True, False, True]))
    assert chosen.longitude.tolist() == [1, 5]
    again = joined(points.part(0, 1), points.part(1, 3))
    assert again.recorded_at.tolist() == points.recorded_at.tolist()
    assert (again.count, again.latitude.tolist()) == (3, [2, 4, 6])
