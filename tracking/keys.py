"""Which keys may have signed a token: the one of the settings, or a set that the issuer shows.

IOLoop thread.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt

from tracking.errors import KeysUnavailable, UnknownKey

# Of one family, and never what a token's header says: RFC 8725, section 3.1.
PUBLIC_KEY_ALGORITHMS: Final = ("RS256", "ES256")
_FITTING: Final = {"RS256": ("RSA", None), "ES256": ("EC", "P-256")}
# An unknown key makes us ask the issuer again, at most so often, whatever tokens are thrown at us.
MIN_FETCH_INTERVAL_S: Final = 10.0
# A set older than this, though it is fetched every five minutes, is worth a remark.
STALE_AFTER_S: Final = 900.0


class Candidates(NamedTuple):
    """The keys that may have signed a token, and whether its header named them by their id."""

    keys: Sequence[Any]
    are_named: bool


class OneKey:
    """The secret or public key of the settings."""

    def __init__(self, key: Any, algorithms: Sequence[str]) -> None:
        self.algorithms = list(algorithms)
        self._candidates = Candidates((key,), True)

    def candidates(self, _: Mapping[str, Any]) -> Candidates:
        return self._candidates

    async def renewed(self, _: float) -> bool:
        """There is no newer one."""
        return True

    def status(self) -> str:
        return "ok"


class _SetKey(NamedTuple):
    key: Any
    key_id: str | None
    algorithm: str


class KeySet:
    """The keys of a JWKS (RFC 7517), replaced whole whenever `workers.jwks` has fetched it."""

    def __init__(self) -> None:
        self.algorithms = list(PUBLIC_KEY_ALGORITHMS)
        self.wanted = asyncio.Event()  # a token named a key that is not here
        self._tried = asyncio.Event()  # the fetch that is next has ended
        self._keys: list[_SetKey] = []
        self._fetched_at = self._tried_at = float("-inf")
        self._problem = "not fetched yet"

    def replace(self, jwks: bytes) -> int:
        """Hold these keys instead; how many. ValueError if none is usable: the old ones stay."""
        found = [key for key in map(_usable, _members(jwks)) if key is not None]
        if not found:
            raise ValueError("no key in it can verify RS256 or ES256 signatures")
        self._keys, self._problem = found, ""
        self._fetched_at = time.monotonic()
        self._end_try()
        return len(found)

    def failed(self, problem: str) -> None:
        """The set could not be fetched or used; what is held stays."""
        self._problem = problem
        self._end_try()

    def _end_try(self) -> None:
        self._tried_at = time.monotonic()
        ended, self._tried = self._tried, asyncio.Event()
        ended.set()

    @property
    def is_empty(self) -> bool:
        return not self._keys

    def candidates(self, header: Mapping[str, Any]) -> Candidates:
        """The keys that fit a token's header; raises KeysUnavailable, or UnknownKey for none.

        `kid` is optional in both (RFC 7517, section 4.5): a key without an id may be meant by any
        token of its algorithm, and a token without one may mean any key.
        """
        if not self._keys:
            raise KeysUnavailable("tokens cannot be checked at the moment")
        key_id = header.get("kid")
        fitting = [each for each in self._keys if each.algorithm == header.get("alg")]
        named = [each.key for each in fitting if key_id is not None and each.key_id == key_id]
        if named:
            return Candidates(named, True)
        keys = [each.key for each in fitting if key_id is None or each.key_id is None]
        if not keys:
            raise self.unknown()
        return Candidates(keys, False)

    def unknown(self) -> UnknownKey:
        """The error for a token that none of these keys has signed; the issuer is asked again."""
        self.wanted.set()
        return UnknownKey("tokens cannot be checked at the moment")

    async def renewed(self, within_s: float) -> bool:
        """Whether the set is the issuer's present one; waits for a fetch that is due."""
        if time.monotonic() - self._tried_at >= MIN_FETCH_INTERVAL_S:
            self.wanted.set()
            try:
                await asyncio.wait_for(self._tried.wait(), within_s)
            except TimeoutError:
                return False
        return time.monotonic() - self._fetched_at < MIN_FETCH_INTERVAL_S

    def status(self) -> str:
        """For readiness: "ok", perhaps with a remark after a comma, or what is wrong."""
        if not self._keys:
            return f"no keys from JWT_JWKS_URL: {self._problem}"
        age_s = time.monotonic() - self._fetched_at
        return "ok" if age_s < STALE_AFTER_S else f"ok, {age_s:.0f} s old: {self._problem}"


def _members(jwks: bytes) -> list[Any]:
    """The JWK objects of a set; ValueError if it is none."""
    document = json.loads(jwks)
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError("not a JWKS")
    return members


def _usable(member: Any) -> _SetKey | None:
    """The key of a JWK, None if it cannot verify signatures of ours (RFC 7517, section 4)."""
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    if "verify" not in member.get("key_ops", ("verify",)):
        return None
    kind = member.get("kty"), member.get("crv")
    algorithm = next((name for name, each in _FITTING.items() if each == kind), None)
    if algorithm is None or member.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(member, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None  # half a key, or one of another curve: the others are still good
    public = key.public_key() if hasattr(key, "public_key") else key
    key_id = member.get("kid")
    return _SetKey(public, key_id if isinstance(key_id, str) else None, algorithm)
