"""token -> Principal; may this principal see this booking? Any thread may call."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from msgspec import Struct

from tracking.errors import InvalidToken
from tracking.settings import Settings

ROLES: Final = frozenset({"owner", "runner", "admin", "shop"})
REQUIRED: Final = ("exp", "iat", "iss", "sub", "user_id", "role", "token_type")
ACCESS: Final = "access"  # a refresh token must never open anything
# A real token has some 600 bytes; parsing a megabyte of base64 is work for nothing.
MAX_TOKEN_LENGTH: Final = 4096
# Clocks of two servers may differ by so much.
LEEWAY_S: Final = 5

KeyFor = Callable[[str], Any]


class _KnownSecret(HMACAlgorithm):
    """Judges a secret (is it rather a public key?) once, not again for each token."""

    prepare_key = lru_cache(maxsize=4)(HMACAlgorithm.prepare_key)


jwt.unregister_algorithm("HS256")
jwt.register_algorithm("HS256", _KnownSecret(HMACAlgorithm.SHA256))


class Principal(Struct, frozen=True):
    """Who asks, and until when they may."""

    user_id: UUID
    role: str
    expires_at: datetime


class BookingAccess(Struct, frozen=True):
    """Who may watch a booking: its owner, and the runner who has it now."""

    booking_id: UUID
    owner_id: UUID | None
    runner_id: UUID | None


class Tokens:
    """Checks access tokens against one key, or a set of keys, of one algorithm family."""

    def __init__(self, key_for: KeyFor, algorithms: Sequence[str], issuers: Sequence[str]) -> None:
        self._key_for = key_for
        self._algorithms = list(algorithms)
        self._issuers = list(issuers)

    def principal(self, token: str) -> Principal:
        """Raises InvalidToken, always with the same text: what was wrong is nobody's business."""
        try:
            if len(token) > MAX_TOKEN_LENGTH:
                raise ValueError("too long")
            claims = jwt.decode(
                token,
                self._key_for(token),
                algorithms=self._algorithms,
                issuer=self._issuers,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED), "verify_aud": False},
            )
            return _principal(claims)
        except Exception:  # whatever PyJWT stumbles over, the token opens nothing
            raise InvalidToken("invalid or expired token") from None


def _principal(claims: Mapping[str, Any]) -> Principal:
    expires = claims["exp"]
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise ValueError("exp")  # PyJWT takes a number in a string, too
    if claims["token_type"] != ACCESS or claims["role"] not in ROLES:
        raise ValueError("not an access token")
    if claims["sub"] != claims["user_id"]:
        raise ValueError("two subjects")
    expires_at = datetime.fromtimestamp(expires, UTC)
    return Principal(UUID(claims["user_id"]), claims["role"], expires_at)


def tokens_of(settings: Settings, keys: "KeySet | None" = None) -> Tokens:
    """The checker for the one kind of key that the settings name."""
    if settings.jwt_secret:
        secret = settings.jwt_secret
        return Tokens(lambda _: secret, ["HS256"], settings.jwt_issuers)
    if settings.jwt_public_key:
        key = load_pem_public_key(settings.jwt_public_key.encode())
        return Tokens(lambda _: key, ["RS256", "ES256"], settings.jwt_issuers)
    assert keys is not None
    return Tokens(keys.key_for, ["RS256", "ES256"], settings.jwt_issuers)


class KeySet:
    """The keys of a JWKS, by id. Replaced whole on a timer; an unknown id fetches nothing."""

    def __init__(self) -> None:
        self._keys: dict[str, Any] = {}

    def replace(self, jwks: bytes) -> int:
        """Take a fetched JWKS (RFC 7517); raises jwt.PyJWTError and keeps the last good set."""
        found = jwt.PyJWKSet.from_json(jwks.decode()).keys
        self._keys = {key.key_id: key.key for key in found if key.key_id}
        return len(self._keys)

    def key_for(self, token: str) -> Any:
        return self._keys[jwt.get_unverified_header(token)["kid"]]


def may_watch(principal: Principal, booking: BookingAccess | None) -> bool:
    """A booking's owner, its present runner, and any admin; nobody else, and never a shop."""
    if booking is None or principal.role == "shop":
        return False
    if principal.role == "admin":
        return True
    if principal.role == "owner":
        return principal.user_id == booking.owner_id
    return principal.user_id == booking.runner_id
