"""handlers.rejections: every error has its row, and clients are told the same rows."""

import re

import pytest

from handlers.rejections import BUG, REJECTIONS, Rejection, rejection_of
from tests.running import CHECKOUT
from tracking import errors
from tracking.errors import TrackingError

# What no request can raise.
NEVER_ANSWERED = {errors.SettingsError, errors.InvalidEvent, errors.SchemaOutdated}
PROTOCOL = (CHECKOUT / "docs" / "protocol.md").read_text()
OPERATIONS = (CHECKOUT / "docs" / "operations.md").read_text()


def test_every_error_that_a_request_can_raise_has_a_row() -> None:
    answered = {each for each in vars(errors).values() if isinstance(each, type)}
    assert set(REJECTIONS) == answered - NEVER_ANSWERED - {TrackingError}


def test_whatever_has_no_row_is_a_bug_and_says_nothing() -> None:
    assert rejection_of(KeyError("x")) is rejection_of(None) is BUG
    assert BUG.status == 500


@pytest.mark.parametrize("row", REJECTIONS.values(), ids=lambda row: row.outcome)
def test_clients_and_operators_can_look_every_row_up(row: Rejection) -> None:
    rows = re.findall(r"^\| .* \| (\d{3}) \| (\d{4}) \|$", PROTOCOL, re.MULTILINE)
    assert (str(row.status), str(row.close_code.code)) in rows
    assert re.search(rf"\b{row.outcome}\b", OPERATIONS)
