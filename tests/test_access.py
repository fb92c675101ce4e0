"""tracking.domain.access: which tokens open something, and for whom."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dev.tokens import access_token
from tests.keys import public_pem
from tracking.domain.access import BookingAccess, KeySet, Principal, Tokens, may_watch, tokens_of
from tracking.errors import InvalidToken
from tracking.settings import Settings

SECRET = "s" * 32
USER = uuid4()
ISSUERS = ("kilat-pet-runner", "service-identity")
TOKENS = Tokens(lambda _: SECRET, ["HS256"], ISSUERS)
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
    "issued in the future": lambda: token(iat=4_000_000_000),
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
    "a megabyte": lambda: "a." * 500_000,
    "not ascii": lambda: "é.ü.ß",
}


@pytest.mark.parametrize("make", INVALID.values(), ids=list(INVALID))
def test_an_invalid_token_opens_nothing(make: Callable[[], str]) -> None:
    with pytest.raises(InvalidToken) as caught:
        TOKENS.principal(make())
    assert str(caught.value) == "invalid or expired token"


def test_a_public_key_does_not_verify_hs256() -> None:
    tokens = Tokens(lambda _: PUBLIC_PEM, ["RS256", "ES256"], ISSUERS)
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


def test_a_jwks_is_replaced_whole_and_kept_when_the_next_is_bad() -> None:
    claims = jwt.decode(token(), options={"verify_signature": False})
    ec_key = ec.generate_private_key(ec.SECP256R1())
    keys = KeySet()
    tokens = Tokens(keys.key_for, ["RS256", "ES256"], ISSUERS)
    signed = jwt.encode(claims, RSA_KEY, algorithm="RS256", headers={"kid": "one"})
    with pytest.raises(InvalidToken):
        tokens.principal(signed)
    one = jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
    two = jwt.algorithms.ECAlgorithm.to_jwk(ec_key.public_key(), as_dict=True)
    jwks = {"keys": [{**one, "kid": "one"}, {**two, "kid": "two"}]}
    assert keys.replace(json.dumps(jwks).encode()) == 2
    assert tokens.principal(signed).user_id == USER
    by_ec = jwt.encode(claims, ec_key, algorithm="ES256", headers={"kid": "two"})
    assert tokens.principal(by_ec).user_id == USER
    with pytest.raises((jwt.PyJWTError, ValueError)):
        keys.replace(b"<html>sorry</html>")
    assert tokens.principal(signed).user_id == USER
    unknown = jwt.encode(claims, RSA_KEY, algorithm="RS256", headers={"kid": "three"})
    with pytest.raises(InvalidToken):
        tokens.principal(unknown)


def test_who_may_watch_a_booking() -> None:
    owner, runner, stranger = uuid4(), uuid4(), uuid4()
    booking = BookingAccess(uuid4(), owner, runner)
    expires_at = TOKENS.principal(token()).expires_at
    allowed = {
        (user, role)
        for user in (owner, runner, stranger)
        for role in ("owner", "runner", "admin", "shop")
        if may_watch(Principal(user, role, expires_at), booking)
    }
    admins = {(user, "admin") for user in (owner, runner, stranger)}
    assert allowed == {(owner, "owner"), (runner, "runner")} | admins
    assert not may_watch(Principal(owner, "admin", expires_at), None)
    unclaimed = BookingAccess(uuid4(), None, None)
    assert not may_watch(Principal(owner, "owner", expires_at), unclaimed)
