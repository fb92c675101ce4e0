"""Keys as an operator writes them into the settings."""

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def public_pem(key: PublicKeyTypes) -> str:
    """SubjectPublicKeyInfo (RFC 5280): BEGIN PUBLIC KEY."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
