"""tracking.tokens: which tokens open something, and for whom."""

import base64
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dev.tokens import access_token
from tests.keys import public_pem
from tracking.errors import InvalidToken
from tracking.keys import OneKey
from tracking.settings import Settings
from tracking.tokens import MAX_TOKEN_LENGTH, Tokens, tokens_of

SECRET = "s" * 32
USER = uuid4()
ISSUERS = ("kilat-pet-runner", "service-identity")
TOKENS = Tokens(OneKey(SECRET, ["HS256"]), ISSUERS)
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = public_pem(RSA_KEY.public_key())


def token(**overrides: Any) -> str:
    return access_token(SECRET, USER, "owner", **overrides)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unsigned() -> str:
    claims = jwt.decode(token(), options={"verify_signature": False})
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def signed_with_a_public_key() -> str:
    """The classic: HS256 with the RS256 verifier's public key as its secret."""
    claims = jwt.decode(token(), options={"verify_signature": False})
    head = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = base64.urlsafe_b64encode(
        algorithm.sign(head.encode(), PUBLIC_PEM.encode())
    ).decode()
    return f"{head}.{signature.rstrip('=')}"


INVALID: dict[str, Callable[[], str]] = {
    "expired": lambda: token(lifetime=timedelta(minutes=-1)),
    "not valid yet": lambda: token(nbf=4_000_000_000),
    "no exp": lambda: token(exp=None),
    "exp as text": lambda: token(exp="4000000000"),
    "exp as true": lambda: token(exp=True),
    "no sub": lambda: token(sub=None),
    "no user id": lambda: token(user_id=None),
    "two users": lambda: token(user_id=str(uuid4())),
    "user id that is no uuid": lambda: token(sub="admin", user_id="admin"),
    "no role": lambda: token(role=None),
    "unknown role": lambda: token(role="root"),
    "list of roles": lambda: token(role=["admin"]),
    "refresh token": lambda: token(token_type="refresh"),
    "no token type": lambda: token(token_type=None),
    "wrong issuer": lambda: token(iss="somebody-else"),
    "no issuer": lambda: token(iss=None),
    "another secret": lambda: access_token("x" * 32, USER, "owner"),
    "alg none": unsigned,
    "signed with a public key": signed_with_a_public_key,
    "cut": lambda: token()[:-5],
    "bad base64": lambda: "eyJ!.eyJ!.!",
    "two parts": lambda: "a.b",
    "empty": lambda: "",
    "longer than any": lambda: token(groups="g" * MAX_TOKEN_LENGTH),
    "a megabyte": lambda: "a." * 500_000,
    "not ascii": lambda: "é.ü.ß",
}


@pytest.mark.parametrize("make", INVALID.values(), ids=list(INVALID))
def test_an_invalid_token_opens_nothing(make: Callable[[], str]) -> None:
    with pytest.raises(InvalidToken) as caught:
        TOKENS.principal(make())
    assert str(caught.value) == "invalid or expired token"


def test_a_public_key_does_not_verify_hs256() -> None:
    tokens = Tokens(OneKey(PUBLIC_PEM, ["RS256", "ES256"]), ISSUERS)
    with pytest.raises(InvalidToken):
        tokens.principal(signed_with_a_public_key())


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_the_public_key_of_the_settings_verifies_what_its_owner_signed(algorithm: str) -> None:
    claims = jwt.decode(token(), options={"verify_signature": False})
    own: Any = RSA_KEY if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    tokens = tokens_of(Settings.from_environment({"JWT_PUBLIC_KEY": public_pem(own.public_key())}))
    assert tokens.principal(jwt.encode(claims, own, algorithm=algorithm)).user_id == USER
    with pytest.raises(InvalidToken):
        tokens.principal(signed_with_a_public_key())
    stranger: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(InvalidToken):
        tokens.principal(jwt.encode(claims, stranger, algorithm="RS256"))


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("role", ["owner", "runner", "admin", "shop"])
def test_a_valid_token_names_its_principal(role: str, issuer: str) -> None:
    principal = TOKENS.principal(access_token(SECRET, USER, role, iss=issuer))
    assert (principal.user_id, principal.role) == (USER, role)
    assert principal.expires_at.utcoffset() == timedelta(0)


VALID: dict[str, Callable[[], str]] = {
    "issued half a minute ahead": lambda: token(iat=int(time.time()) + 30),
    "issued in the far future": lambda: token(iat=4_000_000_000),
    "not said when issued": lambda: token(iat=None),
    "5 kB": lambda: token(groups=["g" * 20] * 160),
}


@pytest.mark.parametrize("make", VALID.values(), ids=list(VALID))
def test_what_a_valid_token_may_look_like(make: Callable[[], str]) -> None:
    assert TOKENS.principal(make()).user_id == USER


def test_a_token_of_5_kb_is_one() -> None:
    assert 5_000 < len(VALID["5 kB"]()) < MAX_TOKEN_LENGTH
