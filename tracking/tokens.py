"""Access token -> Principal. IOLoop thread."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from tracking.domain.access import Principal
from tracking.errors import InvalidToken, KeysUnavailable, UnknownKey
from tracking.keys import PUBLIC_KEY_ALGORITHMS, KeySet, OneKey
from tracking.settings import Settings

ROLES: Final = frozenset({"owner", "runner", "admin", "shop"})
# Not `iat`: it is optional and rejects nothing (RFC 7519, section 4.1.6).
REQUIRED: Final = ("exp", "iss", "sub", "user_id", "role", "token_type")
ACCESS: Final = "access"  # a refresh token must never open anything
# Ours have some 600 bytes, those with a company's groups in them 5 kB; more is work for nothing.
# server.MAX_HEADER_BYTES leaves room for two of them.
MAX_TOKEN_LENGTH: Final = 8192
# Clocks of two servers may differ by so much.
LEEWAY_S: Final = 5
# A request whose token was signed with a key that we don't know waits so long for a newer set.
KEYS_WAIT_S: Final = 1.5
# Always the same text: what was wrong with a token is nobody's business.
INVALID: Final = "invalid or expired token"


class _KnownSecret(HMACAlgorithm):
    """Checks a secret (is it rather a public key?) once, not again for each token."""

    prepare_key = lru_cache(maxsize=4)(HMACAlgorithm.prepare_key)


jwt.unregister_algorithm("HS256")
jwt.register_algorithm("HS256", _KnownSecret(HMACAlgorithm.SHA256))


class Tokens:
    """Checks access tokens against one key, or a set of keys, of one algorithm family."""

    def __init__(self, keys: OneKey | KeySet, issuers: tuple[str, ...]) -> None:
        self.keys = keys
        self._issuers = list(issuers)

    def principal(self, token: str) -> Principal:
        """Raises InvalidToken, or KeysUnavailable when that cannot be known now."""
        try:
            return self._principal(token)
        except KeysUnavailable:
            raise
        except Exception:  # whatever PyJWT stumbles over, the token opens nothing
            raise InvalidToken(INVALID) from None

    async def principal_once_renewed(self, token: str) -> Principal:
        """As `principal`; a token of an unknown key waits for a newer set of keys first."""
        try:
            return self.principal(token)
        except UnknownKey:
            if not await self.keys.renewed(KEYS_WAIT_S):
                raise
        try:
            return self.principal(token)
        except UnknownKey:
            raise InvalidToken(INVALID) from None

    def _principal(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_LENGTH:
            raise ValueError("too long")
        candidates = self.keys.candidates(jwt.get_unverified_header(token))
        for key in candidates.keys:
            try:
                return _principal(self._claims(token, key))
            except jwt.InvalidSignatureError:
                continue
        if isinstance(self.keys, KeySet) and not candidates.are_named:
            raise self.keys.unknown()
        raise ValueError("signature")

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=self.keys.algorithms,
            issuer=self._issuers,
            leeway=LEEWAY_S,
            options={"require": list(REQUIRED), "verify_aud": False, "verify_iat": False},
        )


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


def tokens_of(settings: Settings) -> Tokens:
    """The checker for the one kind of key that the settings name."""
    if settings.jwt_secret:
        return Tokens(OneKey(settings.jwt_secret, ["HS256"]), settings.jwt_issuers)
    if settings.jwt_public_key:
        key = load_pem_public_key(settings.jwt_public_key.encode())
        return Tokens(OneKey(key, PUBLIC_KEY_ALGORITHMS), settings.jwt_issuers)
    return Tokens(KeySet(), settings.jwt_issuers)
