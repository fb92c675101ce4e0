"""handlers.pages.policy: nothing but our own, and a Host header writes no rules."""

import pytest

from handlers.pages.policy import content_security_policy


def rules(policy: str) -> dict[str, list[str]]:
    parts = [rule.split() for rule in policy.split("; ")]
    assert len({part[0] for part in parts}) == len(parts), "a rule stands there twice"
    return {part[0]: part[1:] for part in parts}


def test_nothing_is_allowed_that_is_not_ours() -> None:
    policy = rules(content_security_policy("pets.example:8443", (), ()))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["worker-src"] == ["'self'"]
    assert policy["connect-src"] == ["'self'", "ws://pets.example:8443", "wss://pets.example:8443"]
    assert policy["require-trusted-types-for"] == ["'script'"]
    text = content_security_policy("pets.example", (), ())
    assert "unsafe" not in text
    assert "blob:" not in text
    assert "data:" not in text


def test_an_outside_map_and_an_embedding_app_are_named() -> None:
    policy = rules(
        content_security_policy("a.example", ("https://tiles.example",), ("https://app.example",))
    )
    assert policy["img-src"] == ["'self'", "https://tiles.example"]
    assert "https://tiles.example" in policy["connect-src"]
    assert policy["frame-ancestors"] == ["https://app.example"]


@pytest.mark.parametrize("host", ["a; script-src *", "a b", "", "a,b", "x" * 300, "[::1]; x"])
def test_a_forged_host_has_no_place_in_it(host: str) -> None:
    assert rules(content_security_policy(host, (), ()))["connect-src"] == ["'self'"]


def test_an_ipv6_host_is_one() -> None:
    assert "ws://[::1]:8005" in rules(content_security_policy("[::1]:8005", (), ()))["connect-src"]
