"""Receipts: what the platform says of an ended trip, signed. Any thread may call.

A compact JWS (RFC 7515) over the settled summary; docs/receipts.md says what it proves.
"""

import base64
import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

TYPE: Final = "trip-receipt+jwt"
ALGORITHM: Final = "EdDSA"
_PRIVATE: Final = "an Ed25519 private key as PEM (openssl genpkey -algorithm ed25519)"
_PUBLIC: Final = "Ed25519 public keys as PEM, one behind the other"
_END: Final = "-----END PUBLIC KEY-----"


def signing_key(value: str) -> str:
    """The PEM text, if it is one; ValueError says what is expected."""
    try:
        key = load_pem_private_key(value.replace("\\n", "\n").encode(), None)
    except (ValueError, TypeError):  # TypeError: it has a password
        raise ValueError(_PRIVATE) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(_PRIVATE)
    return value.replace("\\n", "\n")


def public_keys(value: str) -> str:
    """The PEM texts, if they are; ValueError says what is expected."""
    try:
        _public_keys(value.replace("\\n", "\n"))
    except (ValueError, TypeError):
        raise ValueError(_PUBLIC) from None
    return value.replace("\\n", "\n")


def _public_keys(value: str) -> list[Ed25519PublicKey]:
    found = []
    for text in value.split(_END):
        if text.strip():
            key = load_pem_public_key(f"{text.strip()}\n{_END}\n".encode())
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(_PUBLIC)
            found.append(key)
    return found


class ReceiptKeys:
    """The key that signs, and the public ones that receipts may be checked with."""

    def __init__(self, key: str = "", old_keys: str = "") -> None:
        """As the settings have them; both may be empty."""
        signing = load_pem_private_key(key.encode(), None) if key else None
        assert signing is None or isinstance(signing, Ed25519PrivateKey)
        self._signing = signing
        mine = [] if signing is None else [signing.public_key()]
        keys = {each["kid"]: each for each in map(_jwk, [*mine, *_public_keys(old_keys)])}
        self.jwks: dict[str, Any] = {"keys": [*keys.values()]}
        self._kid = _jwk(mine[0])["kid"] if mine else ""

    @property
    def can_sign(self) -> bool:
        return self._signing is not None

    def sign(self, claims: Mapping[str, Any]) -> str:
        assert self._signing is not None
        headers = {"typ": TYPE, "kid": self._kid}
        return jwt.encode(dict(claims), self._signing, ALGORITHM, headers)


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """RFC 8037; named by its thumbprint (RFC 7638), so that nobody has to choose names."""
    x = _base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    thumbprint = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    kid = _base64url(sha256(thumbprint.encode()).digest())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": ALGORITHM}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def state_of(claims: Mapping[str, Any]) -> str:
    """SHA-256 of what a receipt says of the trip: the same state has the same receipt."""
    return sha256(json.dumps(claims, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
