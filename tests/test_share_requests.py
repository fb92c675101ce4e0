"""handlers.api.share_requests: what may be asked for, and what is said of the rest."""

import json
from typing import Any

import pytest

from handlers.api.share_requests import share_changes, share_terms
from tests.viewing import SECRET
from tracking.domain.shares import ShareTerms
from tracking.errors import InvalidRequest
from tracking.settings import Settings

SETTINGS = Settings(jwt_secret=SECRET, share_link_hours=24, share_link_max_hours=48)
DAY_S = 24 * 3600


def test_what_is_not_asked_for_is_as_it_always_was() -> None:
    usual = ShareTerms(DAY_S, None, False, DAY_S)
    assert share_terms(b"", SETTINGS) == share_terms(b"{}", SETTINGS) == usual


def test_everything_may_be_asked_for() -> None:
    body = b'{"expires_in_s": 1, "label": "for Grandma", "from": "pickup", "after_end_s": 0}'
    assert share_terms(body, SETTINGS) == ShareTerms(1, "for Grandma", True, 0)
    assert share_terms(b'{"expires_in_s": 60.0}', SETTINGS).expires_in_s == 60
    longest = {"expires_in_s": 2 * DAY_S, "label": "x" * 80, "after_end_s": 2 * DAY_S}
    terms = share_terms(json.dumps(longest).encode(), SETTINGS)
    assert terms == ShareTerms(2 * DAY_S, "x" * 80, False, 2 * DAY_S)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"expires_at": 5}, "expires_at"),
        ({"expires_in_s": 0}, "expires_in_s is 1 to 172800 whole seconds"),
        ({"expires_in_s": 2 * DAY_S + 1}, "expires_in_s is 1 to 172800 whole seconds"),
        ({"expires_in_s": "60"}, "expires_in_s"),
        ({"expires_in_s": True}, "expires_in_s"),
        ({"expires_in_s": 1.5}, "expires_in_s"),
        ({"expires_in_s": 10**30}, "expires_in_s"),
        ({"after_end_s": -1}, "after_end_s is 0 to 172800 whole seconds"),
        ({"after_end_s": None}, "after_end_s"),
        ({"label": "x" * 81}, "label is one line of at most 80"),
        ({"label": "a\0b"}, "label is one line"),
        ({"label": "a\nb"}, "label is one line"),
        ({"label": 5}, "label"),
        ([], "the body is not as expected"),
        (None, "the body is not as expected"),
    ],
)
def test_the_answer_names_what_is_wrong(body: Any, said: str) -> None:
    text = json.dumps(body).encode()
    for parsed in (share_terms, share_changes):
        with pytest.raises(InvalidRequest, match=said):
            parsed(text, SETTINGS)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"label": "\\ud800"}'])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body is not as expected"):
        share_terms(body, SETTINGS)


def test_a_change_has_only_what_it_names() -> None:
    assert share_changes(b"{}", SETTINGS) == {}
    assert share_changes(b'{"label": null}', SETTINGS) == {"label": None}
    assert share_changes(b'{"after_end_s": 0}', SETTINGS) == {"after_end_s": 0}
    with pytest.raises(InvalidRequest, match="from"):
        share_changes(b'{"from": "pickup"}', SETTINGS)
    with pytest.raises(InvalidRequest, match="from"):
        share_terms(b'{"from": "yesterday"}', SETTINGS)
    with pytest.raises(InvalidRequest, match="the body is not as expected"):
        share_changes(b"", SETTINGS)


def test_the_usual_life_may_be_longer_than_the_longest() -> None:
    settings = Settings(jwt_secret=SECRET, share_link_hours=720)
    assert settings.share_link_max_s == 720 * 3600
    assert share_terms(b"", settings).expires_in_s == 720 * 3600
