"""tracking.wire.close_codes: what RFC 6455 allows, and the rule that clients follow."""

import re

import pytest

from tests.running import CHECKOUT
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode, going_away

CODES = [each for each in vars(close_codes).values() if isinstance(each, CloseCode)]
PROTOCOL = (CHECKOUT / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("code", [*CODES, going_away(3_600)], ids=str)
def test_a_reason_is_short_and_plain(code: CloseCode) -> None:
    assert code.reason.isascii()
    assert 0 < len(code.reason) <= 32


@pytest.mark.parametrize("code", CODES, ids=str)
def test_a_code_may_be_sent_by_an_endpoint(code: CloseCode) -> None:
    reserved = (1004, 1005, 1006, 1015)  # RFC 6455, section 7.4.1
    assert 1000 <= code.code <= 1014 or 4000 <= code.code <= 4999
    assert code.code not in reserved


def test_no_two_reasons_share_a_code() -> None:
    assert len({code.code for code in CODES}) == len(CODES)


@pytest.mark.parametrize("code", CODES, ids=str)
def test_the_protocol_page_has_the_code(code: CloseCode) -> None:
    assert re.search(rf"^\| {code.code} \|", PROTOCOL, re.MULTILINE)


def test_who_is_sent_away_is_told_when_to_come_back() -> None:
    assert going_away(7) == (1001, "going away, retry in 7 s")
