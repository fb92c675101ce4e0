"""tracking.keys: which keys of a set may have signed a token."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dev.tokens import access_token
from tracking import keys as keys_module
from tracking.errors import InvalidToken, KeysUnavailable, UnknownKey
from tracking.keys import KeySet
from tracking.tokens import Tokens

USER = uuid4()
ISSUERS = ("kilat-pet-runner",)
CLAIMS = jwt.decode(access_token("s" * 32, USER, "owner"), options={"verify_signature": False})
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def signed(key: Any, kid: str | None = None) -> str:
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    return jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    algorithm: Any = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **more}


def jwks(*members: Any) -> bytes:
    return json.dumps({"keys": members}).encode()


def tokens_with(*members: Any) -> Tokens:
    keys = KeySet()
    keys.replace(jwks(*members))
    return Tokens(keys, ISSUERS)


OPENED: dict[str, tuple[str, list[Any]]] = {
    "neither has an id": (signed(RSA), [jwk(RSA)]),
    "the key has none": (signed(EC, "one"), [jwk(EC)]),
    "the token has none": (signed(EC), [jwk(EC, kid="one")]),
    "several fit": (signed(EC), [jwk(OTHER, kid="one"), jwk(RSA, kid="two"), jwk(EC, kid="three")]),
    "two of one id": (signed(EC, "one"), [jwk(OTHER, kid="one"), jwk(EC, kid="one")]),
    "among useless ones": (signed(EC), [{"kty": "oct", "k": "c2VjcmV0"}, 7, {}, jwk(EC)]),
    "says what it is for": (signed(EC), [jwk(EC, use="sig", key_ops=["verify"], alg="ES256")]),
}


@pytest.mark.parametrize(("token", "members"), OPENED.values(), ids=list(OPENED))
def test_the_key_that_fits_is_tried(token: str, members: list[Any]) -> None:
    assert tokens_with(*members).principal(token).user_id == USER


USELESS: dict[str, Mapping[str, Any]] = {
    "for encryption": {"use": "enc"},
    "may not verify": {"key_ops": ["sign"]},
    "of another algorithm": {"alg": "ES384"},
}


@pytest.mark.parametrize("more", USELESS.values(), ids=list(USELESS))
def test_a_key_that_is_for_something_else_verifies_nothing(more: Mapping[str, Any]) -> None:
    with pytest.raises(UnknownKey):
        tokens_with(jwk(EC, kid="one", **more), jwk(RSA)).principal(signed(EC, "one"))


def test_a_named_key_is_the_only_one_that_is_tried() -> None:
    tokens = tokens_with(jwk(OTHER, kid="one"), jwk(EC, kid="two"))
    with pytest.raises(InvalidToken):
        tokens.principal(signed(EC, "one"))
    with pytest.raises(UnknownKey):
        tokens.principal(signed(EC, "three"))


BAD = {
    "no JSON": b"<html>sorry</html>",
    "no set": b"[]",
    "no list": b'{"keys": {}}',
    "empty": jwks(),
    "only useless ones": jwks(jwk(EC, use="enc"), {"kty": "oct", "k": "c2VjcmV0"}),
    "of another curve": jwks({**jwk(EC), "crv": "P-384"}),
    "another kind": jwks({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
    "half a key": jwks({**jwk(EC), "x": "AAAA"}),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=list(BAD))
def test_a_set_without_usable_keys_never_replaces_a_good_one(answer: bytes) -> None:
    tokens = tokens_with(jwk(EC))
    assert isinstance(tokens.keys, KeySet)
    with pytest.raises(ValueError):
        tokens.keys.replace(answer)
    assert tokens.principal(signed(EC)).user_id == USER


def test_without_keys_nobody_can_say_whether_a_token_is_good() -> None:
    tokens = Tokens(KeySet(), ISSUERS)
    for token in (signed(EC), signed(RSA, "one")):
        with pytest.raises(KeysUnavailable):
            tokens.principal(token)
    with pytest.raises(InvalidToken):
        tokens.principal("not even a token")
    assert tokens.keys.status() == "no keys from JWT_JWKS_URL: not fetched yet"


def test_an_old_set_is_a_remark_and_no_reason_to_send_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = KeySet()
    keys.replace(jwks(jwk(EC)))
    assert keys.status() == "ok"
    monkeypatch.setattr(keys_module, "STALE_AFTER_S", 0.0)
    keys.failed("connection refused")
    assert keys.status().startswith("ok, ")
    assert keys.status().endswith("connection refused")


def test_a_private_key_that_was_published_by_mistake_still_verifies() -> None:
    private = jwt.algorithms.ECAlgorithm.to_jwk(EC, as_dict=True)
    assert tokens_with(private).principal(signed(EC)).user_id == USER
